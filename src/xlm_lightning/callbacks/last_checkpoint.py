"""The checkpoints a run is resumed from: every N optimizer steps, at a stop, and at the end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from xlm_lightning.atomic import replace_link
from xlm_lightning.checkpoint import LAST
from xlm_lightning.checkpoint_writer import CheckpointWriter, remove
from xlm_lightning.task import LanguageModeling

_NAME = re.compile(r"step-(\d+)\.ckpt").fullmatch


class LastCheckpoint(Checkpoint):
    """Writes `step-NNNNNNNN.ckpt`, keeps the last ones, and lets `last.ckpt` point to the newest.

    Only at optimizer steps: in the middle of an accumulation the gradients would be lost. At a step
    that validates, only after the validation: a resumed run would neither repeat it nor know of its
    result. (A `Checkpoint` of Lightning's comes after all other callbacks, and this one after the
    keeper of the best.) The link is moved when the new file is whole, and only then an old one is
    removed, so that `last.ckpt` is never missing.
    """

    def __init__(
        self,
        folder: Path,
        writer: CheckpointWriter,
        *,
        every_n_steps: int,
        keep: int,
        keep_every_n_steps: int | None,
    ) -> None:
        """`writer`: the trainer's. `keep_every_n_steps`: those of its multiples stay for good."""
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.keep = keep
        self.keep_every_n_steps = keep_every_n_steps
        self._writer = writer
        self._saved_step = 0
        self._due = False

    @property
    def path(self) -> Path:
        """The newest checkpoint."""
        return self.folder / LAST

    def begin_with(self, newest: Path) -> None:
        """Do what a kill may have left undone after it: a run at its end saves nothing more."""
        found = _NAME(newest.name)
        if found and newest.parent == self.folder:
            replace_link(self.path, newest.name)
            self._remove_older(int(found[1]))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_step = trainer.global_step  # as loaded, or nothing to save yet

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: LanguageModeling, *_: Any
    ) -> None:
        self._writer.check()
        step = trainer.global_step
        ends = trainer.should_stop or step == trainer.max_steps
        # skipped steps may be the end of this run: the checkpoints from before them stay
        now = step % self.every_n_steps == 0 and not pl_module.skipped
        self._due = step != self._saved_step and (ends or now)
        if self._due and not validates_now(trainer):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and self._due:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self._saved_step:
            self._save(trainer)
        self._writer.wait()
        trainer.strategy.barrier()  # the other ranks are going to read the best one

    def _save(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        file = self.folder / f"step-{step:08d}.ckpt"
        trainer.save_checkpoint(file)
        if trainer.is_global_zero:
            self._writer.then(lambda: self._point_to(file, step))
        self._saved_step = step
        self._due = False

    def _point_to(self, newest: Path, step: int) -> None:
        """Runs in the writer's thread, when the file is there."""
        replace_link(self.path, newest.name)
        self._remove_older(step)
        for other, file in self._files().items():
            if other > step:  # of a run that began again before it
                remove(file)

    def _remove_older(self, step: int) -> None:
        files = self._files()
        older = sorted(other for other in files if other < step)
        for other in older[: max(len(older) - (self.keep - 1), 0)]:
            if self.keep_every_n_steps is None or other % self.keep_every_n_steps:
                remove(files[other])

    def _files(self) -> dict[int, Path]:
        there = self.folder.iterdir()
        return {int(found[1]): file for file in there if (found := _NAME(file.name))}


def validates_now(trainer: pl.Trainer) -> bool:
    """Whether Lightning will validate after the micro-batch that has just ended."""
    if trainer.limit_val_batches == 0:
        return False
    micro_batches = trainer.fit_loop.total_batch_idx + 1
    interval = trainer.val_check_batch
    return trainer.should_stop or (interval is not None and micro_batches % interval == 0)
