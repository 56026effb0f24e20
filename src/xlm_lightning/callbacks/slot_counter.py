"""Counts the slots that training consumed: the whole state of a run's data."""

from __future__ import annotations

from typing import Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from xlm_lightning.errors import UserError


class Slots(Protocol):
    """What is counted for: the data module, whose state this is."""

    slot: int  # consumed by all ranks
    slots_per_step: int
    begins_anew: bool


class SlotCounter(Callback):
    """First in the list of callbacks, so that it counts before any checkpoint.

    What was trained on is held against the count: a run that skips or repeats data must not go on.
    """

    def __init__(self, data: Slots) -> None:
        self._data = data

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = self._data.slot // self._data.slots_per_step
        if steps != trainer.global_step and not self._data.begins_anew:
            raise RuntimeError(f"{steps} steps of data are consumed after {trainer.global_step}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        if batch["slot"] != self._data.slot + trainer.global_rank:
            raise RuntimeError(f"slot {batch['slot']} came when {self._data.slot} was due")
        self._data.slot += trainer.world_size

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Rescale Lightning's counters of micro-batches, which are those of one rank.

        Without it a run that continues on another number of ranks closes its accumulation windows
        at other slots. `completed` lags by one in a checkpoint written in `on_train_batch_end`.
        """
        state = checkpoint.get(type(self._data).__qualname__)
        if state is None:
            raise UserError(
                "the checkpoint holds no state of the data (written by another program?); start a "
                "new run with resume=never"
            )
        before, now = state["slots_per_step"], self._data.slots_per_step
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            lag = counts["processed"] - counts["completed"]
            for name in ("ready", "started", "processed"):
                slots = counts[name] * state["world_size"] * now // before
                counts[name] = slots // trainer.world_size
            counts["completed"] = counts["processed"] - lag
