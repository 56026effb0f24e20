"""`xlm-train`: the contents of one run. The loop is Lightning's; one step is in `task.py`."""

from __future__ import annotations

import logging
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from xlm_lightning import schema
from xlm_lightning.assembly import (
    build_data,
    build_early_stopping,
    build_model,
    build_task,
    build_timer,
    build_trainer,
)
from xlm_lightning.callbacks.figures import TrainingFigures
from xlm_lightning.callbacks.last_checkpoint import LastCheckpoint
from xlm_lightning.callbacks.progress import Progress
from xlm_lightning.callbacks.samples import Samples
from xlm_lightning.callbacks.stop_signals import StopSignals
from xlm_lightning.checkpoint import CHECKPOINTS, LAST, model_weights, read_checkpoint
from xlm_lightning.closing import closing_lines, grammatical_shares, write_sentences
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.errors import UserError
from xlm_lightning.loggers import build_loggers, close_loggers
from xlm_lightning.machine import keep_freed_memory, uses_gpu
from xlm_lightning.model import XLM
from xlm_lightning.run_folder import RunFolder, provenance, text_options, weights_sha256
from xlm_lightning.task import MONITOR, CausalLanguageModeling
from xlm_lightning.text.pipeline import TextPipeline, load_pipelines


def train(config: schema.Train, command: Sequence[str]) -> dict[str, Any]:
    """Train, evaluate the best checkpoint, and return the summary of the contract."""
    _quieten_libraries()
    if not uses_gpu(config.trainer.accelerator):
        keep_freed_memory()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    run = RunFolder(Path(config.run.dir))
    resume_from = _resume_from(config.resume, run)

    data = build_data(config)
    model = build_model(config.model, data.manifest)
    task = build_task(config, model, data.manifest)
    pipelines = load_pipelines(data.folder, **text_options(data.manifest))

    figures = TrainingFigures(config.trainer.log_every_n_steps)
    signals = StopSignals()
    best = ModelCheckpoint(
        run.checkpoints,
        filename="best-{step:08d}",
        monitor=MONITOR,
        save_top_k=config.checkpoint.keep_best,
        auto_insert_metric_name=False,
        save_weights_only=True,
    )
    last = LastCheckpoint(
        run.checkpoints,
        every_n_steps=config.checkpoint.every_n_steps,
        keep=config.checkpoint.keep_last,
    )
    samples = Samples(run.samples, pipelines, seed=config.seed, **asdict(config.callbacks.samples))
    stopping, timer = build_early_stopping(config.callbacks), build_timer(config.trainer)
    progress = Progress(figures, config.callbacks.progress_seconds, timer)
    callbacks = [figures, signals, stopping, timer, best, last, samples, progress]
    trainer = build_trainer(
        config.trainer,
        run.path,
        loggers=build_loggers(config, run),
        callbacks=[callback for callback in callbacks if callback is not None],
    )
    if trainer.is_global_zero:
        run.copy_text_model(data.folder, data.manifest)
        run.write_config(asdict(config), command)
        run.write_provenance(_provenance(config, command, trainer))

    started = time.monotonic()
    trainer.fit(task, data, ckpt_path=resume_from)

    summary = {
        "status": "stopped" if signals.received else "finished",
        "run_dir": str(run.path),
        "experiment": config.run.experiment,
        "steps": trainer.global_step,
        "tokens_seen": figures.tokens_seen,
        "seconds": time.monotonic() - started,
        "tokens_per_second": figures.tokens_seen / max(figures.seconds, 1e-9),
        "precision": str(trainer.precision),
        "accelerator": task.device.type,
        "world_size": trainer.world_size,
        "seed": config.seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "best_checkpoint": best.best_model_path or None,
        "last_checkpoint": str(last.path),
        "weights_sha256": weights_sha256(model),
    }
    if signals.received is None:
        summary |= _evaluate(trainer, task, data, best.best_model_path)
        if trainer.is_global_zero:
            summary |= _close(summary, model, pipelines, data, config.callbacks.samples)
    if trainer.is_global_zero:
        run.write_summary(summary)
    close_loggers(trainer.loggers)
    if signals.received is not None:
        _say_how_to_resume(command, run)
        summary["exit_code"] = 128 + signals.received
    return summary


def _resume_from(resume: str, run: RunFolder) -> Path | None:
    """Return the checkpoint to continue, None for a new run."""
    last = run.checkpoints / LAST
    if resume == "auto":
        return last if last.is_file() else None
    if resume == "never":
        if last.is_file():
            raise UserError(
                f"run.dir={run.path} already holds a run; continue it with resume=auto, "
                "or choose another run.dir"
            )
        return None
    path = Path(resume)
    path = path if path.is_file() else path / CHECKPOINTS / LAST
    read_checkpoint(path)
    return path


def _provenance(
    config: schema.Train, command: Sequence[str], trainer: pl.Trainer
) -> dict[str, Any]:
    return provenance(
        command=command,
        seed=config.seed,
        data_folder=Path(config.data.dir),
        precision_asked=config.trainer.precision,
        precision_used=str(trainer.precision),
        world_size=trainer.world_size,
    )


def _evaluate(
    trainer: pl.Trainer, task: CausalLanguageModeling, data: StreamingDataModule, best: str
) -> dict[str, Any]:
    """Score valid and test, whole, with the best weights, beside the corpus's own limit."""
    if trainer.is_global_zero:
        print("scoring all of valid and test with the best weights", file=sys.stderr)
    if best:
        task.model.load_state_dict(model_weights(read_checkpoint(Path(best))))
    results: dict[str, Any] = {}
    trainer.validate(task, data, verbose=False)
    results["valid"] = task.results
    if "test" in data.manifest.splits:
        trainer.test(task, data, verbose=False)
        results["test"] = task.results
    if data.manifest.limit:
        results["limit"] = data.manifest.limit["valid"]
    return results


def _close(
    summary: dict[str, Any],
    model: XLM,
    pipelines: dict[str, TextPipeline],
    data: StreamingDataModule,
    samples: schema.Samples,
) -> dict[str, Any]:
    """Print the figures and some text of the model's own; return the share that is grammatical."""
    sentences = write_sentences(
        model,
        pipelines,
        temperature=samples.temperature,
        top_k=samples.top_k,
        seed=summary["seed"],
    )
    shares = grammatical_shares(sentences, pipelines, data.manifest)
    added = {"grammatical": shares} if shares else {}
    texts = {
        name: [pipelines[name].decode(ids) for ids in rows] for name, rows in sentences.items()
    }
    print("\n".join(closing_lines({**summary, **added}, texts)), file=sys.stderr)
    return added


def _say_how_to_resume(command: Sequence[str], run: RunFolder) -> None:
    others = [word for word in command if not word.startswith(("run.dir=", "resume="))]
    line = shlex.join([*others, f"run.dir={run.path}"])
    print(f"stopped; go on with\n  {line}", file=sys.stderr)


def _quieten_libraries() -> None:
    """Leave out what Lightning says at every start and what does not concern the user."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*`srun` command is available.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*GPU available but not used.*",
        ".*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message)
