"""Steps skipped because a loss or gradient was not finite, and gradients far too large."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from xlm_lightning.errors import RunFailed
from xlm_lightning.task import LanguageModeling

SPIKE = 10.0  # times the usual gradient norm
_USUAL = 100  # steps over which the usual one is averaged, and before which nothing is unusual


class NumericalFaults(Callback):
    """Counts and tells them; ends the run after `max_in_a_row` skipped steps.

    All ranks see the same norm, so all of them end.
    """

    def __init__(self, max_in_a_row: int) -> None:
        self.max_in_a_row = max_in_a_row
        self.skipped_steps = 0
        self.spikes = 0
        self._in_a_row = 0
        self._usual_norm = 0.0  # a mean that forgets
        self._steps = 0  # in that mean
        self._last_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step = trainer.global_step

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: LanguageModeling, *_: Any
    ) -> None:
        step = trainer.global_step
        if step == self._last_step:
            return
        self._last_step = step
        if pl_module.skipped:
            self._skipped(trainer, step)
        else:
            self._in_a_row = 0
            self._taken(trainer, step, float(pl_module.gradient_norm))

    def _skipped(self, trainer: pl.Trainer, step: int) -> None:
        self.skipped_steps += 1
        self._in_a_row += 1
        self._tell(trainer, step, "a loss or gradient is not finite; the step is skipped")
        _log(trainer, step, "train/skipped_steps", self.skipped_steps)
        if self._in_a_row >= self.max_in_a_row:
            raise RunFailed(
                f"{self._in_a_row} steps in a row had a loss or gradient that is not finite "
                f"(callbacks.max_skipped_steps={self.max_in_a_row}), up to step {step}; go on from "
                "the last checkpoint with a lower optimizer.lr, or look for the cause with "
                "debug=anomaly"
            )

    def _taken(self, trainer: pl.Trainer, step: int, norm: float) -> None:
        if self._steps >= _USUAL and norm > SPIKE * self._usual_norm:
            self.spikes += 1
            usual = f"{self._usual_norm:.3g} are usual"
            self._tell(trainer, step, f"the gradient norm is {norm:.3g}, where {usual}")
            _log(trainer, step, "train/gradient_norm_spikes", self.spikes)
        self._steps = min(self._steps + 1, _USUAL)
        self._usual_norm += (norm - self._usual_norm) / self._steps

    def _tell(self, trainer: pl.Trainer, step: int, what: str) -> None:
        if trainer.is_global_zero:
            print(f"step {step}: {what}", file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        return {
            "skipped_steps": self.skipped_steps,
            "spikes": self.spikes,
            "in_a_row": self._in_a_row,
            "usual_norm": self._usual_norm,
            "steps": self._steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped_steps = state_dict["skipped_steps"]
        self.spikes = state_dict["spikes"]
        self._in_a_row = state_dict["in_a_row"]
        self._usual_norm = state_dict["usual_norm"]
        self._steps = state_dict["steps"]


def _log(trainer: pl.Trainer, step: int, name: str, value: float) -> None:
    for logger in trainer.loggers:
        logger.log_metrics({name: value}, step=step)
