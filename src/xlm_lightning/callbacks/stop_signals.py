"""Signals only set a flag: training ends at the next optimizer step, where a checkpoint is exact,
scoring after the next batch.

Lightning's own handlers save in the middle of a batch, or not at all, and end with exit code 0.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer
from pytorch_lightning.trainer.states import TrainerFn

from xlm_lightning.callbacks.last_checkpoint import validates_now

_ONE_PRESS_SECONDS = 1.0  # a Ctrl-C may come twice: from the terminal, and handed on by torchrun
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Stopped(Exception):
    """Scoring was left because of a signal."""


class StopSignals(Callback):
    """Ends a run cleanly on the first signal, a second Ctrl-C at once, and `timer` when it is up.

    The timer only counts: Lightning's own question to the ranks, pickled and sent after each
    micro-batch, took milliseconds of each step on a GPU.
    """

    def __init__(self, timer: Timer | None = None) -> None:
        self.timer = timer
        self.received: signal.Signals | None = None  # by this process
        self._received_at = 0.0
        self.stopped_by: int | None = None  # the signal that all ranks have agreed on
        self._last_step = 0
        self._process = os.getpid()

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle signals in this block; before and after it they do what they did."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._install()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # one may have waited
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step = trainer.global_step
        self._install()  # over Lightning's own, which it has just installed

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """At an optimizer step the ranks agree: a signal to any of them stops all."""
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        if self._agreed(trainer, time_is_up=self._time_is_up()):
            due = validates_now(trainer)  # or the resumed run would not make up for it
            trainer.should_stop = True
            if self.stopped_by and not due:
                trainer.limit_val_batches = 0  # Lightning would validate before it stops

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._install()

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.state.fn != TrainerFn.FITTING and self._agreed(trainer):
            raise Stopped

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._install()

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._agreed(trainer):
            raise Stopped

    def _time_is_up(self) -> bool:
        left = None if self.timer is None else self.timer.time_remaining()
        return left is not None and left <= 0

    def _agreed(self, trainer: pl.Trainer, *, time_is_up: bool = False) -> bool:
        told = [int(self.received or 0), int(time_is_up)]
        if trainer.world_size > 1:
            own = torch.tensor(told, device=trainer.strategy.root_device)
            told = trainer.strategy.reduce(own, reduce_op="max").tolist()
        self.stopped_by = told[0] or None
        return any(told)

    def _install(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker that reads data, which ends with the process it reads for
        now = time.monotonic()
        if self.received is not None:
            if number == signal.SIGINT and now - self._received_at > _ONE_PRESS_SECONDS:
                os._exit(128 + number)
            return
        self.received, self._received_at = signal.Signals(number), now
        print(
            f"\n{self.received.name}: ending at the next step, with a checkpoint; "
            "Ctrl-C once more leaves at once",
            file=sys.stderr,
            flush=True,
        )
