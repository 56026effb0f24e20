"""Progress on stderr: loss, tokens per second, time left; line by line without a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from xlm_lightning.callbacks.figures import TrainingFigures
from xlm_lightning.task import CausalLanguageModeling

LINE_SECONDS = 20.0  # between two lines of a log file


class Progress(Callback):
    """Shows optimizer steps; a validation adds a line with the perplexity of every language."""

    def __init__(self, figures: TrainingFigures, seconds: float) -> None:
        """`seconds` between two updates on a terminal."""
        self.figures = figures
        self.interactive = sys.stderr.isatty()
        self.seconds = seconds if self.interactive else max(seconds, LINE_SECONDS)
        self._bar: tqdm[Any] | None = None
        self._updated = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._updated = time.monotonic()
        if self.interactive:
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                unit="step",
                desc="training",
                dynamic_ncols=True,
                file=sys.stderr,
            )

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if not trainer.is_global_zero or time.monotonic() - self._updated < self.seconds:
            return
        self._updated = time.monotonic()
        latest = self.figures.latest
        if self._bar is not None:
            if latest:
                self._bar.set_postfix_str(
                    f"loss {latest['train/loss']:.3f}, "
                    f"{latest['train/tokens_per_second']:,.0f} tokens/s",
                    refresh=False,
                )
            self._bar.update(trainer.global_step - self._bar.n)
        elif latest:
            self._write(self._line(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._bar.set_description("validation")

    def on_validation_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: CausalLanguageModeling
    ) -> None:
        if not trainer.is_global_zero or trainer.state.fn != "fit":
            return
        if self._bar is not None:
            self._bar.set_description("training")
        parts = [f"{name} {row['perplexity']:.2f}" for name, row in pl_module.results.items()]
        self._write(f"step {trainer.global_step:,}: valid perplexity {', '.join(parts)}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close(trainer)

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        self._close(trainer)

    def _line(self, trainer: pl.Trainer) -> str:
        latest, figures = self.figures.latest, self.figures
        rate = latest["train/tokens_per_second"]
        tokens_per_step = figures.tokens_seen / max(trainer.global_step, 1)
        left = (trainer.max_steps - trainer.global_step) * tokens_per_step / max(rate, 1e-9)
        return (
            f"step {trainer.global_step:,} of {trainer.max_steps:,}: "
            f"loss {latest['train/loss']:.3f}, {rate:,.0f} tokens/s, "
            f"{tqdm.format_interval(left)} left"
        )

    def _write(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _close(self, trainer: pl.Trainer) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)
            self._bar.close()
            self._bar = None
