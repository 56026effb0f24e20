"""A test of the kill test: trainings with a fault to order, which it must find.

python tests/chaos/sabotage.py FAULT --kills 4
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from chaos import kills

from xlm_lightning import atomic, task
from xlm_lightning.callbacks.last_checkpoint import LastCheckpoint
from xlm_lightning.data import StreamingDataModule


def random_dropout() -> None:
    """Two runs differ from each other."""
    task.mix = lambda seed, number: time.time_ns() % 2**60


def new_data_order() -> None:
    """A resumed run goes on with other data."""
    load = StreamingDataModule.load_state_dict

    def shifted(self: StreamingDataModule, state: dict[str, Any]) -> None:
        load(self, state)
        self.slot += self.slots_per_step

    StreamingDataModule.load_state_dict = shifted  # type: ignore[method-assign]


def optimizer_forgotten() -> None:
    """A resumed run begins with an optimizer that knows nothing."""
    load = torch.optim.Optimizer.load_state_dict

    def partly(self: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        load(self, {**state, "state": {}})

    torch.optim.Optimizer.load_state_dict = partly  # type: ignore[method-assign]


def stops_saving() -> None:
    """Only the first checkpoint is written: the end is right, the work is done again."""
    save = LastCheckpoint._save

    def once(self: LastCheckpoint, trainer: Any) -> None:
        if self._saved_step < kills.EVERY or trainer.global_step == kills.STEPS:
            save(self, trainer)

    LastCheckpoint._save = once  # type: ignore[method-assign]


def leaves_without_an_end() -> None:
    """A resumed run ends at once."""

    def no_training(*_: Any, **__: Any) -> None:
        if any(word.startswith("run.dir=") and "run-" in word for word in sys.argv):
            raise RuntimeError("sabotage")

    LastCheckpoint.on_train_start = no_training  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        random_dropout,
        new_data_order,
        optimizer_forgotten,
        stops_saving,
        leaves_without_an_end,
    )
}

if __name__ == "__main__":
    assert atomic.TEMPORARY_PREFIX == ".partial-", "kills.py looks for these"
    sys.exit(kills.main(sys.argv[2:], FAULTS[sys.argv[1]]))
