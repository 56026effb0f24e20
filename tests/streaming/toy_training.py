"""A tiny model under the real Trainer that logs every micro-batch; also a program to be killed.

Each rank appends `{"rank", "step", "slot", "language", "sha256"}` a line to OUT/log-RANK.jsonl; the
hash of the final weights goes to OUT/weights.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from xlm_lightning.data import StreamingDataModule
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.noise import Noise

BATCH_SIZE, STREAM_LENGTH, SEED = 3, 64, 11


@dataclass(frozen=True)
class Run:
    """What a toy run is made of."""

    folder: Path
    out: Path
    steps: int
    devices: int = 1
    accumulate: int = 1
    workers: int = 0
    val_every: int = 0  # micro-batches of a rank
    save_every: int = 1
    resume: Path | None = None
    kill_at: int | None = None  # kills all processes at the end of this optimiser step
    estimate: bool = False  # a scheduler that asks for trainer.estimated_stepping_batches


class ToyModel(pl.LightningModule):
    """Predicts the next token from the present one; the language has a bias of its own."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.run = run
        self.embedding = torch.nn.Embedding(64, 8)
        self.languages = torch.nn.Embedding(4, 8)
        self.head = torch.nn.Linear(8, 64)
        self.scored = 0

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self._log_batch(batch)
        tokens = batch["tokens"]
        return self._loss(tokens[:, :-1], tokens[:, 1:], batch["language"])

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._loss(batch["tokens"], batch["targets"], batch["language"])
        self.scored += int((batch["targets"] >= 0).sum())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        if not self.run.estimate:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _loss(self, tokens: torch.Tensor, targets: torch.Tensor, language: int) -> torch.Tensor:
        hidden = self.embedding(tokens) + self.languages.weight[language]
        return torch.nn.functional.cross_entropy(
            self.head(hidden).flatten(0, 1), targets.flatten(), ignore_index=-100
        )

    def _log_batch(self, batch: dict[str, Any]) -> None:
        line = {
            "rank": self.global_rank,
            "step": self.global_step,
            "slot": batch["slot"],
            "language": batch["language"],
            "sha256": hashlib.sha256(
                b"".join(
                    batch[name].numpy().tobytes() for name in ("tokens", "source") if name in batch
                )
            ).hexdigest(),
        }
        with (self.run.out / f"log-{self.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


class Killer(Callback):
    """SIGKILL to the whole process group, as an out-of-memory killer or a node failure would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.is_global_zero:
            os.killpg(os.getpgrp(), signal.SIGKILL)


def read_log(out: Path, rank: int = 0) -> list[dict[str, Any]]:
    """The micro-batches that `rank` trained on."""
    lines = (out / f"log-{rank}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def data_module(
    run: Run, kind: type[StreamingDataModule] = StreamingDataModule, **changes: Any
) -> StreamingDataModule:
    """The data of `run`."""
    options: dict[str, Any] = {
        "batch_size": BATCH_SIZE,
        "stream_length": STREAM_LENGTH,
        "alpha": 0.7,
        "shares": {},
        "workers": run.workers,
        "seed": SEED,
        "slots_per_step": run.devices * run.accumulate,
        "objectives": {"clm": [(0, 1.0)]},
        "masking": Masking(0.15, 0.8, 0.1, 0.0, [0] * 64),
        "noise": Noise(),
        "sentence_tokens": 100,
        "sentence_max_length": 50,
        "max_positions": 512,
    }
    return kind(run.folder, **options | changes)


def make_trainer(run: Run, **options: Any) -> pl.Trainer:
    """A quiet CPU Trainer that keeps a checkpoint of every `save_every` steps, OUT/step=N.ckpt."""
    run.out.mkdir(parents=True, exist_ok=True)
    checkpoint = ModelCheckpoint(
        run.out, "{step}", every_n_train_steps=run.save_every, save_top_k=-1
    )
    callbacks: list[Callback] = [checkpoint]
    if run.kill_at is not None:
        callbacks.append(Killer(run.kill_at))
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "devices": run.devices,
            "strategy": "ddp" if run.devices > 1 else "auto",
            "max_steps": run.steps,
            "accumulate_grad_batches": run.accumulate,
            "val_check_interval": run.val_every or None,
            "check_val_every_n_epoch": None if run.val_every else 1,
            "limit_val_batches": None if run.val_every else 0,
            "num_sanity_val_steps": 0,
            "callbacks": callbacks,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        | options
    )


def train(run: Run) -> ToyModel:
    """Fit, and write the hash of the final weights."""
    model = ToyModel(run)
    trainer = make_trainer(run)
    trainer.fit(model, datamodule=data_module(run), ckpt_path=run.resume, weights_only=True)
    if trainer.is_global_zero:
        (run.out / "weights").write_text(weights_sha256(model))
    return model


def weights_sha256(model: torch.nn.Module) -> str:
    """Hash of all parameters, in name order."""
    state = sorted(model.state_dict().items())
    return hashlib.sha256(b"".join(value.numpy().tobytes() for _, value in state)).hexdigest()


def _parse(name: str, value: str) -> Any:
    kind = {"folder": Path, "out": Path, "resume": Path, "estimate": json.loads}.get(name, int)
    return kind(value)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", nargs="+", help="NAME=VALUE for the fields of Run")
    pairs = [setting.split("=", 1) for setting in parser.parse_args().settings]
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(120, exit=True)  # of a rank that waits for ever
    train(Run(**{name: _parse(name, value) for name, value in pairs}))
