"""Progress on stderr: loss, tokens per second, time left; line by line without a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Timer
from pytorch_lightning.trainer.states import TrainerFn
from tqdm import tqdm

from xlm_lightning.callbacks.figures import TrainingFigures
from xlm_lightning.perplexity import perplexities
from xlm_lightning.task import LanguageModeling

LINE_SECONDS = 20.0  # between two lines of a log file
# Without tqdm's own time left, which knows nothing of max_time and counts validations as steps.
TRAINING_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Progress(Callback):
    """Shows optimizer steps; a validation adds a line with the perplexity of every language."""

    def __init__(
        self, figures: TrainingFigures, seconds: float, timer: Timer | None = None
    ) -> None:
        """`seconds` between two updates on a terminal; `timer` ends the run at its `max_time`."""
        self.figures = figures
        self.timer = timer
        self.interactive = sys.stderr.isatty()
        self.seconds = seconds if self.interactive else max(seconds, LINE_SECONDS)
        self._bar: tqdm[Any] | None = None
        self._updated = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._updated = time.monotonic()
        self._open(trainer, "training", "step", trainer.max_steps, bar_format=TRAINING_BAR)
        if self._bar is not None:
            self._bar.update(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if not trainer.is_global_zero or time.monotonic() - self._updated < self.seconds:
            return
        self._updated = time.monotonic()
        known = bool(self.figures.latest)  # nothing before the first logging
        if self._bar is not None:
            if known:
                self._bar.set_postfix_str(self._latest(trainer), refresh=False)
            self._bar.update(trainer.global_step - self._bar.n)
        elif known:
            of_all = f"step {trainer.global_step:,} of {trainer.max_steps:,}"
            self._write(f"{of_all}: {self._latest(trainer)}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._open(trainer, "scoring valid", "batch", int(sum(trainer.num_val_batches)))
        elif self._bar is not None:
            self._bar.set_description("validation")

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.state.fn != TrainerFn.FITTING and self._bar is not None:
            self._bar.update()

    def on_validation_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: LanguageModeling
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._close()
            return
        if not trainer.is_global_zero:
            return
        if self._bar is not None:
            self._bar.set_description("training")
        parts = [f"{name} {value:.2f}" for name, value in perplexities(pl_module.results)]
        self._write(f"step {trainer.global_step:,}: valid perplexity {', '.join(parts)}")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open(trainer, "scoring test", "batch", int(sum(trainer.num_test_batches)))

    def on_test_batch_end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _latest(self, trainer: pl.Trainer) -> str:
        latest = self.figures.latest
        return (
            f"loss {latest['train/loss']:.3f}, {latest['train/tokens_per_second']:,.0f} tokens/s, "
            f"{tqdm.format_interval(self._seconds_left(trainer))} left"
        )

    def _seconds_left(self, trainer: pl.Trainer) -> float:
        """Until `max_steps` or `max_time`, whichever comes first."""
        tokens_per_step = self.figures.tokens_seen / max(self.figures.steps_seen, 1)
        tokens = (trainer.max_steps - trainer.global_step) * tokens_per_step
        left = tokens / max(self.figures.latest["train/tokens_per_second"], 1e-9)
        until_max_time = self.timer.time_remaining() if self.timer is not None else None
        return left if until_max_time is None else min(left, until_max_time)

    def _write(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _open(
        self,
        trainer: pl.Trainer,
        what: str,
        unit: str,
        total: int,
        bar_format: str | None = None,
    ) -> None:
        if self.interactive and trainer.is_global_zero:
            self._bar = tqdm(
                total=total,
                unit=unit,
                desc=what,
                dynamic_ncols=True,
                bar_format=bar_format,
                file=sys.stderr,
            )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
