"""From an accepted configuration to the objects of a run: its values become plain arguments."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, Timer
from pytorch_lightning.loggers import Logger

from xlm_lightning import schema
from xlm_lightning.checkpoint import AtomicCheckpointIO, load_model
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.errors import UserError
from xlm_lightning.machine import cpu_has_bf16, fastest_precision, uses_gpu
from xlm_lightning.manifest import Manifest
from xlm_lightning.model import XLM
from xlm_lightning.task import MONITOR, CausalLanguageModeling


def build_data(config: schema.Train) -> StreamingDataModule:
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
        overfit_slots=data.overfit_slots,
    )


def _world_size(trainer: schema.Trainer) -> int:
    """Processes of the run, before there is a Trainer to ask."""
    if isinstance(trainer.devices, list):
        return len(trainer.devices) * trainer.num_nodes
    if trainer.devices == "auto":
        devices = torch.cuda.device_count() if uses_gpu(trainer.accelerator) else 1
        return max(1, devices) * trainer.num_nodes
    return int(trainer.devices) * trainer.num_nodes


def build_model(options: schema.Model, manifest: Manifest) -> XLM:
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


def build_task(config: schema.Train, model: XLM, manifest: Manifest) -> CausalLanguageModeling:
    return CausalLanguageModeling(
        model,
        languages=manifest.languages,
        bytes_per_token={split: manifest.bytes_per_token(split) for split in manifest.splits},
        optimizer=asdict(config.optimizer),
        schedule=asdict(config.schedule),
        stream_length=config.data.stream_length,
        total_steps=config.trainer.max_steps,
        seed=config.seed,
    )


def build_early_stopping(options: schema.Callbacks) -> EarlyStopping | None:
    patience = options.early_stopping_patience
    return None if patience is None else EarlyStopping(MONITOR, patience=patience, mode="min")


def build_timer(options: schema.Trainer) -> Timer | None:
    return None if options.max_time is None else Timer(options.max_time, verbose=False)


def choose_precision(asked: str, accelerator: str) -> str:
    """Return Lightning's name of the precision that will be used, and say so where it differs."""
    name = schema.PRECISIONS[asked]
    if name == "auto":
        return fastest_precision(accelerator)
    if uses_gpu(accelerator):
        return name
    if name == "16-mixed":
        note = "trainer.precision=16-mixed: fp16 is emulated on a CPU, so bf16-mixed is used"
        print(note, file=sys.stderr)
        name = "bf16-mixed"
    if name.startswith("bf16") and not cpu_has_bf16():
        note = f"trainer.precision={name}: this CPU emulates bf16, far slower than precision 32"
        print(note, file=sys.stderr)
    return name


def build_trainer(
    options: schema.Trainer, folder: Path, *, loggers: list[Logger], callbacks: list[Callback]
) -> pl.Trainer:
    if options.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError(
            "trainer.accelerator=gpu: torch finds no GPU on this machine; "
            "say trainer.accelerator=cpu (and trainer.devices=1), or install a CUDA build of torch"
        )
    arguments = asdict(options)
    del arguments["max_time"]  # a callback, so that the last checkpoint comes after it
    arguments["precision"] = choose_precision(options.precision, options.accelerator)
    return pl.Trainer(
        **arguments,
        default_root_dir=folder,
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
