"""What the training loop adds to a step: xlm-train's beside a plain loop in torch.

    python bench/loop.py [--steps 400] [--turns 5]

Three loops over the same tiny model and the same data, in turns: the loop of `xlm-train` with all
of its callbacks, its loggers and its data module; Lightning's Trainer with none of them; a plain
loop that reads its slots by itself. Prints milliseconds a step, the best turn of each, as one JSON
object; `overhead_ms` is what `xlm-train` adds, `overhead_of_a_bare_trainer_ms` what Lightning does.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from xlm_lightning import assembly, cli, schema
from xlm_lightning.beginning import build_model
from xlm_lightning.compose import compose
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.launch import World
from xlm_lightning.loggers import build_loggers
from xlm_lightning.machine import keep_freed_memory
from xlm_lightning.overrides import read_words
from xlm_lightning.prepare import prepare
from xlm_lightning.run_callbacks import build_callbacks
from xlm_lightning.run_folder import RunFolder, prepared_text_model
from xlm_lightning.streaming.loader import SlotBatches
from xlm_lightning.task import LanguageModeling

WARM_UP = 50  # steps that are not timed
TINY = (
    "experiment=debug",
    "data.batch_size=2",
    "data.stream_length=16",
    "model.dim=16",
    "model.heads=2",
    "trainer.accelerator=cpu",
    "trainer.precision=32",
    "trainer.log_every_n_steps=20",
)
ONE = World(devices=1, num_nodes=1, accumulate_grad_batches=1)
Assembled = tuple[schema.Train, StreamingDataModule, LanguageModeling]


class Clock(Callback):
    """Seconds of all steps but the first ones."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def start(self, index: int) -> None:
        if index == WARM_UP:
            self._started = time.perf_counter()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._started

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.start(batch_idx)

    def on_train_batch_end(self, *_: Any) -> None:
        self.stop()


def prepare_tiny_corpus(folder: Path) -> None:
    words = ["corpus=sample_tiny", f"out={folder}"]
    (config,) = compose(cli.PREPARE, read_words(cli.PREPARE, words))
    prepare(config)


def assemble(data_folder: Path, run_folder: Path, steps: int) -> Assembled:
    """What all three loops train, as `xlm-train` makes it of its words."""
    words = [
        *TINY,
        f"data.dir={data_folder}",
        f"run.dir={run_folder}",
        f"trainer.max_steps={steps}",
        f"trainer.val_check_interval={2 * steps}",
        f"checkpoint.every_n_steps={2 * steps}",
    ]
    (config,) = compose(cli.TRAIN, read_words(cli.TRAIN, words))
    data = assembly.build_data(config, ONE)
    model = build_model(config.model, "cpu", data).model
    task = assembly.build_task(config, model, data)
    return config, data, task


def whole_loop(config: schema.Train, data: StreamingDataModule, task: LanguageModeling) -> float:
    pipelines = prepared_text_model(data.folder, data.manifest).pipelines()
    run = RunFolder(Path(config.run.dir))
    clock = Clock()
    callbacks = build_callbacks(config, run, pipelines, data)
    trainer = assembly.build_trainer(
        config.trainer,
        ONE,
        run.path,
        loggers=build_loggers(config.logger, {}, run),
        callbacks=[*callbacks.all, clock],
        writer=callbacks.writer,
    )
    trainer.fit(task, data)
    return clock.seconds


def bare_trainer(config: schema.Train, data: StreamingDataModule, task: LanguageModeling) -> float:
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=config.trainer.max_steps,
        gradient_clip_val=config.trainer.gradient_clip_val,
        limit_val_batches=0,
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=config.run.dir,
    )
    trainer.fit(task, data)
    return clock.seconds


def plain_loop(config: schema.Train, data: StreamingDataModule, task: LanguageModeling) -> float:
    slots = SlotBatches(data.plan, data.train_shards, data.turns, data.masking)
    configured: Any = task.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    clip = config.trainer.gradient_clip_val
    assert clip is not None
    clock = Clock()
    for index in range(config.trainer.max_steps):
        clock.start(index)
        batch = slots[index]
        batch["tokens"] = batch["tokens"].long()
        loss = task.training_step(batch, index)["loss"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(task.parameters(), clip)
        optimizer.step()
        scheduler.step()
        clock.stop()
    return clock.seconds


def compare(folder: Path, steps: int, turns: int) -> dict[str, Any]:
    """Take turns, so that a busy moment hits all; the best of each counts."""
    data_folder = folder / "data"
    loops = {"ours": whole_loop, "bare": bare_trainer, "plain": plain_loop}
    milliseconds: dict[str, list[float]] = {name: [] for name in loops}
    with contextlib.redirect_stderr(io.StringIO()):
        prepare_tiny_corpus(data_folder)
        for turn in range(turns):
            for name, loop in loops.items():
                seconds = loop(*assemble(data_folder, folder / f"{name}-{turn}", steps))
                milliseconds[name].append(1000 * seconds / (steps - WARM_UP))
    ours, bare, plain = (min(values) for values in milliseconds.values())
    return {
        "name": "training loop of a tiny model",
        "ours": round(ours, 3),
        "peer": round(plain, 3),
        "peer_name": "a plain torch loop over the same model and data",
        "ratio": round(plain / ours, 3),
        "unit": "ms/step",
        "overhead_ms": round(ours - plain, 3),
        "overhead_of_a_bare_trainer_ms": round(bare - plain, 3),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(Path(folder), arguments.steps, arguments.turns)), flush=True)


if __name__ == "__main__":
    main()
