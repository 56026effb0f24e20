"""`xlm-train`: the contents of one run. The loop is Lightning's; one step is in `task.py`."""

from __future__ import annotations

import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.loggers import Logger

from xlm_lightning import schema
from xlm_lightning.callbacks.figures import TrainingFigures
from xlm_lightning.callbacks.last_checkpoint import LastCheckpoint
from xlm_lightning.callbacks.progress import Progress
from xlm_lightning.callbacks.samples import Samples
from xlm_lightning.callbacks.stop_signals import StopSignals
from xlm_lightning.checkpoint import (
    LAST,
    AtomicCheckpointIO,
    load_model,
    model_weights,
    read_checkpoint,
)
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.errors import UserError
from xlm_lightning.loggers import build_loggers
from xlm_lightning.machine import fastest_precision, keep_freed_memory, uses_gpu
from xlm_lightning.manifest import Manifest
from xlm_lightning.model import XLM
from xlm_lightning.run_folder import RunFolder, provenance, weights_sha256
from xlm_lightning.task import CausalLanguageModeling

MONITOR = "valid/mean/perplexity"  # early stopping and the best checkpoint, as in the original


def train(config: schema.Train, command: Sequence[str]) -> dict[str, Any]:
    """Train, evaluate the best checkpoint, and return the summary of the contract."""
    started = time.monotonic()
    _quieten_libraries()
    if not uses_gpu(config.trainer.accelerator):
        keep_freed_memory()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    run = RunFolder(Path(config.run.dir))
    resume_from = _resume_from(config.resume, run)

    data = _data(config)
    model = _model(config.model, data.manifest)
    task = _task(config, model, data.manifest)
    figures = TrainingFigures(config.trainer.log_every_n_steps)
    signals = StopSignals()
    last = LastCheckpoint(
        run.checkpoints,
        every_n_steps=config.checkpoint.every_n_steps,
        keep=config.checkpoint.keep_last,
    )
    best = ModelCheckpoint(
        run.checkpoints,
        filename="best-{step:08d}",
        monitor=MONITOR,
        save_top_k=config.checkpoint.keep_best,
        auto_insert_metric_name=False,
        save_weights_only=True,
    )
    run.copy_text_model(data.folder, data.manifest)
    samples = Samples(
        run.samples, run.pipelines(), seed=config.seed, **asdict(config.callbacks.samples)
    )
    progress = Progress(figures, config.callbacks.progress_seconds)
    stopping = _stopping(config)
    trainer = _trainer(
        config.trainer,
        run,
        loggers=build_loggers(config, run),
        callbacks=[figures, signals, *stopping, best, last, samples, progress],
    )
    if trainer.is_global_zero:
        run.write_config(asdict(config), command)
        run.write_provenance(_provenance(config, command, trainer))

    trainer.fit(task, data, ckpt_path=resume_from)

    summary = {
        "status": "stopped" if signals.received else "finished",
        "run_dir": str(run.path),
        "experiment": config.run.experiment,
        "steps": trainer.global_step,
        "tokens_seen": figures.tokens_seen,
        "seconds": figures.seconds,
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
    if signals.received:
        _say_how_to_resume(command, run)
        summary["exit_code"] = 128 + signals.received
    else:
        summary |= _evaluate(trainer, task, data, best.best_model_path)
    summary["total_seconds"] = time.monotonic() - started
    if trainer.is_global_zero:
        run.write_summary(summary)
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
    path = path if path.is_file() else path / "checkpoints" / LAST
    read_checkpoint(path)
    return path


def _data(config: schema.Train) -> StreamingDataModule:
    trainer, data = config.trainer, config.data
    return StreamingDataModule(
        Path(data.dir),
        batch_size=data.batch_size,
        stream_length=data.stream_length,
        alpha=data.alpha,
        workers=data.workers,
        seed=config.seed,
        slots_per_step=_world_size(trainer) * trainer.accumulate_grad_batches,
        max_valid_tokens=data.max_valid_tokens,
    )


def _world_size(trainer: schema.Trainer) -> int:
    """Processes of the run, before there is a Trainer to ask."""
    if isinstance(trainer.devices, list):
        return len(trainer.devices) * trainer.num_nodes
    if trainer.devices == "auto":
        devices = torch.cuda.device_count() if uses_gpu(trainer.accelerator) else 1
        return max(1, devices) * trainer.num_nodes
    return int(trainer.devices) * trainer.num_nodes


def _model(options: schema.Model, manifest: Manifest) -> XLM:
    arguments = asdict(options)
    init_from = arguments.pop("init_from")
    model = XLM(vocab_size=manifest.vocab_size, num_languages=len(manifest.languages), **arguments)
    if init_from is not None:
        _initialise_from(model, Path(init_from))
    return model


def _initialise_from(model: XLM, path: Path) -> None:
    source = load_model(path)
    try:
        model.load_state_dict(source.model.state_dict())
    except RuntimeError as error:
        shapes = {"model": model.arguments, "checkpoint": source.model.arguments}
        differing = sorted(
            f"{key} {shapes['model'][key]} / {shapes['checkpoint'][key]}"
            for key in model.arguments
            if shapes["model"][key] != shapes["checkpoint"][key]
        )
        raise UserError(
            f"model.init_from={path} has another shape (this model / checkpoint): "
            f"{', '.join(differing)}"
        ) from error


def _task(config: schema.Train, model: XLM, manifest: Manifest) -> CausalLanguageModeling:
    bytes_per_token = {
        split: {
            language: manifest.total(split, language, "raw_bytes")
            / max(1, manifest.total(split, language, "tokens"))
            for language in manifest.splits[split]
        }
        for split in manifest.splits
    }
    return CausalLanguageModeling(
        model,
        languages=manifest.languages,
        bytes_per_token=bytes_per_token,
        optimizer=asdict(config.optimizer),
        schedule=asdict(config.schedule),
        stream_length=config.data.stream_length,
        total_steps=config.trainer.max_steps,
        seed=config.seed,
    )


def _stopping(config: schema.Train) -> list[Callback]:
    callbacks: list[Callback] = []
    if config.callbacks.early_stopping_patience is not None:
        patience = config.callbacks.early_stopping_patience
        callbacks.append(EarlyStopping(MONITOR, patience=patience, mode="min"))
    if config.trainer.max_time is not None:
        callbacks.append(Timer(config.trainer.max_time, verbose=False))
    return callbacks


def _trainer(
    options: schema.Trainer, run: RunFolder, *, loggers: list[Logger], callbacks: list[Callback]
) -> pl.Trainer:
    arguments = asdict(options)
    del arguments["max_time"]  # a callback, so that the last checkpoint comes after it
    asked = schema.PRECISIONS[arguments.pop("precision")]
    precision = fastest_precision(options.accelerator) if asked == "auto" else asked
    return pl.Trainer(
        **arguments,
        precision=precision,  # type: ignore[arg-type]
        default_root_dir=run.path,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


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


def _say_how_to_resume(command: Sequence[str], run: RunFolder) -> None:
    others = [word for word in command if not word.startswith(("run.dir=", "resume="))]
    line = shlex.join([*others, f"run.dir={run.path}"])
    print(f"stopped; go on with\n  {line}", file=sys.stderr)


def _quieten_libraries() -> None:
    """Leave out what Lightning says at every start and what does not concern the user."""
    import logging

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
