"""The checkpoints a run is resumed from: every N optimizer steps, at a stop, and at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from xlm_lightning.checkpoint import LAST


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt`, and keeps the `keep - 1` before it as `step-NNNNNNNN.ckpt`.

    Only at optimizer steps: in the middle of an accumulation the gradients would be lost. At a step
    that validates, only after the validation: a resumed run would neither repeat it nor know of its
    result. (A `Checkpoint` of Lightning's comes after all other callbacks, and this one after the
    keeper of the best.) The file that is about to be replaced gets its second name first, so
    `last.ckpt` is never missing.
    """

    def __init__(self, folder: Path, *, every_n_steps: int, keep: int) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.keep = keep
        self._saved_step = 0
        self._due = False

    @property
    def path(self) -> Path:
        """The newest checkpoint."""
        return self.folder / LAST

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step = trainer.global_step  # as loaded, or nothing to save yet

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.global_step
        ends = trainer.should_stop or step == trainer.max_steps
        self._due = step != self._saved_step and (ends or step % self.every_n_steps == 0)
        if self._due and not validates_now(trainer):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and self._due:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self._saved_step:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and self.keep > 1 and self.path.exists():
            older = self.folder / f"step-{self._saved_step:08d}.ckpt"
            if not older.exists():
                os.link(self.path, older)
            for surplus in sorted(self.folder.glob("step-*.ckpt"))[: -(self.keep - 1)]:
                surplus.unlink()
        self._saved_step = trainer.global_step
        self._due = False
        trainer.save_checkpoint(self.path)


def validates_now(trainer: pl.Trainer) -> bool:
    """Whether Lightning will validate after the micro-batch that has just ended."""
    if trainer.limit_val_batches == 0:
        return False
    micro_batches = trainer.fit_loop.total_batch_idx + 1
    interval = trainer.val_check_batch
    return trainer.should_stop or (interval is not None and micro_batches % interval == 0)
