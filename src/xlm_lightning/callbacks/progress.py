"""Progress on stderr: loss, perplexity, speed, load, time left; line by line off a terminal."""

from __future__ import annotations

import os
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
TRAINING_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}"
SHORTEST_BAR = 6  # columns
# From left to right; and what counts most, of which a narrow terminal leaves out the last.
IN_ORDER = ("loss", "perplexity", "speed", "load", "left")
BY_WEIGHT = ("loss", "left", "speed", "perplexity", "load")


class Progress(Callback):
    """Shows optimizer steps and, below, a validation, which leaves a line with its perplexities."""

    def __init__(
        self, figures: TrainingFigures, seconds: float, timer: Timer | None = None
    ) -> None:
        """`seconds` between two updates on a terminal; `timer` ends the run at its `max_time`."""
        self.figures = figures
        self.timer = timer
        self.interactive = sys.stderr.isatty()
        self.seconds = seconds if self.interactive else max(seconds, LINE_SECONDS)
        self._bar: tqdm[Any] | None = None
        self._validation: tqdm[Any] | None = None  # while training
        self._perplexity = ""  # of each language, at the last validation
        self._updated = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._updated = time.monotonic()
        self._bar = self._open(trainer, "training", trainer.max_steps, bar_format=TRAINING_BAR)
        if self._bar is not None:
            self._bar.update(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if not trainer.is_global_zero or time.monotonic() - self._updated < self.seconds:
            return
        self._updated = time.monotonic()
        if self._bar is not None:
            self._advance(self._bar, trainer)
        elif self.figures.latest:  # nothing before the first logging
            of_all = f"step {trainer.global_step:,} of {trainer.max_steps:,}"
            latest = self._latest(trainer)
            told = [latest[name] for name in IN_ORDER if name != "perplexity"]  # has its own lines
            self._write(f"{of_all}: {', '.join(told)}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batches = int(sum(trainer.num_val_batches))
        if trainer.state.fn == TrainerFn.FITTING:
            self._validation = self._open(trainer, "validation", batches, leave=False)
        else:
            self._bar = self._open(trainer, "scoring valid", batches)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        bar = self._validation if trainer.state.fn == TrainerFn.FITTING else self._bar
        if bar is not None:
            bar.update()

    def on_validation_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: LanguageModeling
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._close()
            return
        if not trainer.is_global_zero:
            return
        if self._validation is not None:
            self._validation.close()
            self._validation = None
        parts = {name: f"{name} {value:.2f}" for name, value in perplexities(pl_module.results)}
        self._perplexity = " ".join(part for name, part in parts.items() if "mean" not in name)
        told = f"valid perplexity {', '.join(parts.values())}"
        bleu = [f"{n} {row['bleu']:.2f}" for n, row in pl_module.results.items() if "bleu" in row]
        if bleu:
            told += f"; BLEU {', '.join(bleu)}"
        self._write(f"step {trainer.global_step:,}: {told}")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar = self._open(trainer, "scoring test", int(sum(trainer.num_test_batches)))

    def on_test_batch_end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._advance(self._bar, trainer)
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _advance(self, bar: tqdm[Any], trainer: pl.Trainer) -> None:
        if self.figures.latest:
            bar.set_postfix_str(self._fitting(trainer), refresh=False)
        bar.update(trainer.global_step - bar.n)

    def _latest(self, trainer: pl.Trainer) -> dict[str, str]:
        latest = self.figures.latest
        memory = latest.get("train/gpu_memory_gb")
        cores = latest.get("train/cpu_cores_used")
        return {
            "loss": f"loss {latest['train/loss']:.3f}",
            "perplexity": f"perplexity {self._perplexity}" if self._perplexity else "",
            "speed": f"{latest['train/tokens_per_second']:,.0f} tokens/s",
            "load": f"{cores:.1f} cores" if memory is None else f"{memory:.1f} GB",
            "left": f"{tqdm.format_interval(self._seconds_left(trainer))} left",
        }

    def _fitting(self, trainer: pl.Trainer) -> str:
        """As much as there is room for, so that no line is broken."""
        taken = len(f"training: 100%|| {trainer.max_steps}/{trainer.max_steps}") + SHORTEST_BAR
        room = os.get_terminal_size(sys.stderr.fileno()).columns - taken
        latest, chosen = self._latest(trainer), set[str]()
        for name in BY_WEIGHT:
            needed = len(latest[name]) + len(", ")
            if latest[name] and needed <= room:
                chosen.add(name)
                room -= needed
        return ", ".join(latest[name] for name in IN_ORDER if name in chosen)

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
        total: int,
        *,
        leave: bool = True,
        bar_format: str | None = None,
    ) -> tqdm[Any] | None:
        if not (self.interactive and trainer.is_global_zero):
            return None
        return tqdm(
            total=total,
            unit="batch",
            desc=what,
            leave=leave,
            dynamic_ncols=True,
            bar_format=bar_format,
            file=sys.stderr,
        )

    def _close(self) -> None:
        for bar in (self._validation, self._bar):
            if bar is not None:
                bar.close()
        self._validation = self._bar = None
