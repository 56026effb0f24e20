"""What it costs to log everything: training with all dashboards and samples, and with neither.

    python bench/logging_cost.py [--steps 100] [--rounds 3] [KEY=VALUE ...]

The model and the recipe of `experiment=text_small` on the sample corpus, a validation every
`--steps` steps, as many as in the recipe. Both variants train in turns in one process; the best
round of each counts. What cannot be switched off (`metrics.csv`, checkpoints) is in both. Prints
seconds of training as one JSON object; `once_seconds` is what starting and ending the dashboards
takes, however long the run, and `same_weights` says that logging has not changed the training.

It is not called `logging.py`: beside the other files of this folder, that would be Python's own.
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

import torch

from xlm_lightning import assembly, cli
from xlm_lightning.beginning import build_model
from xlm_lightning.compose import compose
from xlm_lightning.launch import World
from xlm_lightning.loggers import build_loggers, close_loggers, open_loggers
from xlm_lightning.machine import keep_freed_memory
from xlm_lightning.overrides import read_words
from xlm_lightning.prepare import prepare
from xlm_lightning.provenance import weights_sha256
from xlm_lightning.run_callbacks import build_callbacks
from xlm_lightning.run_folder import RunFolder, prepared_text_model

EVERYTHING = ("logger=[csv,tensorboard,trackio,wandb]", "logger.wandb.mode=offline")
NOTHING = ("callbacks.samples.new_tokens=0",)
ONE = World(devices=1, num_nodes=1, accumulate_grad_batches=1)


def train(words: list[str], run_folder: Path, data_folder: Path) -> tuple[float, float, str]:
    """Return seconds of training, seconds of the loggers' start and end, and the weights' hash."""
    words = [*words, f"run.dir={run_folder}", f"data.dir={data_folder}"]
    (config,) = compose(cli.TRAIN, read_words(cli.TRAIN, words))
    torch.manual_seed(config.seed)
    data = assembly.build_data(config, ONE)
    model = build_model(config.model, "cpu", data).model
    task = assembly.build_task(config, model, data)
    run = RunFolder(run_folder)
    run.path.mkdir()
    pipelines = prepared_text_model(data.folder, data.manifest).pipelines()
    callbacks = build_callbacks(config, run, pipelines, data)
    started = time.perf_counter()
    loggers = build_loggers(config.logger, {"run": {"experiment": "text_small"}}, run)
    open_loggers(loggers)
    once = time.perf_counter() - started
    trainer = assembly.build_trainer(
        config.trainer,
        ONE,
        run.path,
        loggers=loggers,
        callbacks=callbacks.all,
        writer=callbacks.writer,
    )
    started = time.perf_counter()
    trainer.fit(task, data)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    close_loggers(loggers, {"steps": trainer.global_step})
    once += time.perf_counter() - started
    return seconds, once, weights_sha256(task.model.state_dict())


def compare(folder: Path, steps: int, rounds: int, words: list[str]) -> dict[str, Any]:
    """Take turns, so that a busy moment hits both."""
    common = [
        "experiment=text_small",
        f"trainer.max_steps={steps}",
        f"trainer.val_check_interval={steps}",
        f"schedule.warmup_steps={steps}",
        *words,
    ]
    variants = {"everything": EVERYTHING, "nothing": NOTHING}
    results: dict[str, list[tuple[float, float, str]]] = {name: [] for name in variants}
    with contextlib.redirect_stderr(io.StringIO()):
        data_folder = folder / "data"
        made = ["corpus=sample_tiny", f"out={data_folder}"]
        prepare(*compose(cli.PREPARE, read_words(cli.PREPARE, made)))
        for turn in range(rounds):
            for name, own in variants.items():
                place = folder / f"{name}-{turn}"
                results[name].append(train([*common, *own], place, data_folder))
    (ours, once, logged), (peer, _, plain) = (min(results[name]) for name in variants)
    return {
        "name": "training of text_small, everything logged",
        "ours": round(ours, 2),
        "peer": round(peer, 2),
        "peer_name": "the same with neither dashboards nor samples",
        "ratio": round(peer / ours, 4),
        "unit": f"s/{steps} steps",
        "rounds": {name: [round(each[0], 2) for each in results[name]] for name in variants},
        "once_seconds": round(once, 2),
        "same_weights": logged == plain,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("words", nargs="*", help="overrides of xlm-train for both")
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        result = compare(Path(folder), arguments.steps, arguments.rounds, arguments.words)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
