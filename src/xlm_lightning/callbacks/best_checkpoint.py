"""The checkpoints of the best validations, in a run folder that may be moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Lightning's keeper of the best, which looks for its files in the folder where it is now.

    Lightning keeps absolute paths. A run that goes on in a copy of its folder would score the best
    weights of the original, and remove them there for better ones. Files that are gone count for
    nothing; those of steps to come, left by a run that has gone back, are removed.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        assert self.dirpath is not None
        for file in Path(self.dirpath).glob("best-*.ckpt"):
            if int(file.stem.removeprefix("best-")) > trainer.global_step:
                trainer.strategy.remove_checkpoint(file)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = {
            path: score
            for before, score in state_dict["best_k_models"].items()
            if Path(path := self._here(before)).is_file()
        }
        paths = {
            name: path if (path := self._here(state_dict[name])) in best else ""
            for name in ("best_model_path", "kth_best_model_path")
        }
        super().load_state_dict(
            {**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath}
        )
        self.current_score = state_dict["current_score"]  # which Lightning saves and forgets

    def _here(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath) / Path(path).name)
