"""Signals only set a flag; training ends at the next optimizer step, where a checkpoint is exact.

Lightning's own handlers save in the middle of a batch, or not at all, and end with exit code 0.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopSignals(Callback):
    """Ends training cleanly on the first signal; a second Ctrl-C leaves at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._last_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step = trainer.global_step
        for number in SIGNALS:  # after Lightning's, which are restored at the end
            self._before[number] = signal.signal(number, self._handle)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """At an optimizer step the ranks agree: a signal to any of them stops all."""
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        stop = self.received is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning would validate first, for minutes perhaps

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = signal.Signals(number)
        print(
            f"\n{self.received.name}: ending at the next step with a checkpoint; "
            "Ctrl-C once more leaves at once",
            file=sys.stderr,
            flush=True,
        )

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
