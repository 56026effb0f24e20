"""What checkpoints and repeatable randomness cost of a training: of `experiment=text_small`.

    python bench/reliability.py [--steps 30]

Trains its model, with a vocabulary of 20,000 words, and saves checkpoints as `xlm-train` does:
training waits for the copy (`wait_ms`), a thread writes, hashes and flushes it meanwhile
(`writer_cpu_ms`, of a core that training could have used; `written_ms` until it is there). Dropout
is seeded anew at each step (`seeding_ms`). `ours` is the share of 200 steps that one wait, the
writer's time and 200 seedings make up; `peer` is that of Lightning's own writer, which is waited
for, hashes nothing and leaves flushing to the system. One JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from loop import ONE, prepare_tiny_corpus
from pytorch_lightning.callbacks import Callback

from xlm_lightning import assembly, cli
from xlm_lightning.checkpoint_writer import CheckpointWriter
from xlm_lightning.compose import compose
from xlm_lightning.machine import keep_freed_memory
from xlm_lightning.model import XLM
from xlm_lightning.overrides import read_words

EVERY, WORDS = 200, 20_000  # steps between checkpoints; ids of the vocabulary
WARM_UP, SAVES = 5, 5


class Clock(Callback):
    """Times steps, then checkpoints and seedings at the end of the last one."""

    def __init__(self, wait: Callable[[], None], folder: Path) -> None:
        """`wait`: until all that was saved is written."""
        self._wait = wait
        self._folder = folder
        self._began = 0.0
        self.step_seconds: list[float] = []
        self.saves: list[tuple[float, float, float]] = []  # wait, until written, CPU of both
        self.seeding_seconds = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        self.step_seconds.append(time.perf_counter() - self._began)
        if trainer.global_step == trainer.max_steps:
            for number in range(SAVES):
                self._save(trainer, self._folder / f"{number}.ckpt")
            began = time.perf_counter()
            for _ in range(1000):
                pl_module.on_train_batch_start(batch, 0)
            self.seeding_seconds = (time.perf_counter() - began) / 1000

    def _save(self, trainer: pl.Trainer, file: Path) -> None:
        began, cpu = time.perf_counter(), time.process_time()
        trainer.save_checkpoint(file)
        waited = time.perf_counter() - began
        self._wait()
        written = time.perf_counter() - began
        self.saves.append((waited, written, time.process_time() - cpu))


def measure(folder: Path, steps: int) -> dict[str, Any]:
    """Train `steps` steps and save five checkpoints; medians."""
    words = ["experiment=text_small", f"data.dir={folder / 'data'}", f"run.dir={folder / 'run'}"]
    words += ["trainer.accelerator=cpu", "trainer.precision=32", f"trainer.max_steps={steps}"]
    with contextlib.redirect_stderr(io.StringIO()):
        prepare_tiny_corpus(folder / "data")
        words += ["trainer.val_check_interval=1000", "schedule.warmup_steps=0"]
        (config,) = compose(cli.TRAIN, read_words(cli.TRAIN, words))
        data = assembly.build_data(config, ONE)
        arguments = dataclasses.asdict(config.model)
        for key in ("init_from", "encoder_from", "decoder_from", "shared_embeddings", "compile"):
            del arguments[key]
        model = XLM(vocab_size=WORDS, num_languages=2, **arguments)
        writer = CheckpointWriter()
        clock = Clock(writer.wait, folder)
        trainer = assembly.build_trainer(
            config.trainer, ONE, folder / "run", loggers=[], callbacks=[clock], writer=writer
        )
        task = assembly.build_task(config, model, data)
        trainer.fit(task, data)
        theirs = Clock(lambda: None, folder)
        plain = pl.Trainer(
            accelerator="cpu",
            max_steps=1,
            limit_val_batches=0,
            logger=False,
            callbacks=[theirs],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        data.slot = 0
        plain.fit(task, data)
    step = statistics.median(clock.step_seconds[WARM_UP:])
    wait, written, cpu = (statistics.median(column) for column in zip(*clock.saves, strict=True))
    writer_cpu = max(cpu - wait, 0.0)
    lost = wait + writer_cpu / torch.get_num_threads() + EVERY * clock.seeding_seconds
    ours = 100 * lost / (EVERY * step)
    peer = 100 * statistics.median(wait for wait, _, _ in theirs.saves) / (EVERY * step)
    return {
        "name": f"checkpoints every {EVERY} steps, and seeding, of text_small",
        "ours": round(ours, 4),
        "peer": round(peer, 4),
        "peer_name": "Lightning's own checkpoints, without seeding",
        "ratio": round(peer / ours, 3),
        "unit": "% of the training time",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "step_ms": round(1000 * step, 1),
        "wait_ms": round(1000 * wait, 1),
        "written_ms": round(1000 * written, 1),
        "writer_cpu_ms": round(1000 * writer_cpu, 1),
        "seeding_ms": round(1000 * clock.seeding_seconds, 4),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), parser.parse_args().steps)), flush=True)


if __name__ == "__main__":
    main()
