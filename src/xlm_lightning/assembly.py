"""From an accepted configuration to the objects of a run: its values become plain arguments."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

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
from xlm_lightning.checkpoint import AtomicCheckpointIO
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.errors import UserError
from xlm_lightning.machine import cpu_has_bf16, fastest_precision, require_gpu, uses_gpu
from xlm_lightning.manifest import Manifest
from xlm_lightning.model import XLM
from xlm_lightning.pretrained import load_model
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.task import MONITOR, CausalLanguageModeling
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.vocabulary import Vocabulary
from xlm_lightning.warm_start import warm_start


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


def build_model(options: schema.Model, data: StreamingDataModule) -> XLM:
    """Make the model for the words and languages of the data; say what a warm start matched."""
    arguments = asdict(options)
    init_from = arguments.pop("init_from")
    manifest = data.manifest
    model = XLM(vocab_size=manifest.vocab_size, num_languages=len(manifest.languages), **arguments)
    if init_from is not None:
        vocabulary = Vocabulary.load(data.folder / "vocab")
        print(
            warm_start(model, vocabulary, manifest.languages, load_model(init_from)),
            file=sys.stderr,
        )
    return model


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


@dataclass(frozen=True)
class RunCallbacks:
    """All callbacks of a run, and by name those that its summary asks."""

    all: list[Callback]
    figures: TrainingFigures
    signals: StopSignals
    best: ModelCheckpoint
    last: LastCheckpoint


def build_callbacks(
    config: schema.Train, run: RunFolder, pipelines: Mapping[str, TextPipeline]
) -> RunCallbacks:
    """Make the callbacks, in the order in which they act; checkpoints come last anyway."""
    options = config.callbacks
    figures = TrainingFigures(config.trainer.log_every_n_steps)
    signals = StopSignals()
    timer = _timer(config.trainer)
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
    samples = Samples(run.samples, pipelines, seed=config.seed, **asdict(options.samples))
    progress = Progress(figures, options.progress_seconds, timer)
    optional = [_early_stopping(options), timer]
    present = [callback for callback in optional if callback is not None]
    in_order: list[Callback] = [figures, signals, *present, samples, progress, best, last]
    return RunCallbacks(in_order, figures, signals, best, last)


def _early_stopping(options: schema.Callbacks) -> EarlyStopping | None:
    patience = options.early_stopping_patience
    return None if patience is None else EarlyStopping(MONITOR, patience=patience, mode="min")


def _timer(options: schema.Trainer) -> Timer | None:
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


def _check_devices(options: schema.Trainer) -> None:
    """What the schema cannot know: which devices this machine has."""
    devices = options.devices
    if not uses_gpu(options.accelerator):
        if isinstance(devices, list):
            raise UserError(
                f"trainer.devices={devices}: there is no GPU here; on a CPU say how many processes"
            )
        return
    count = torch.cuda.device_count()
    wanted = max(devices) + 1 if isinstance(devices, list) else devices
    if devices != "auto" and wanted > count:
        raise UserError(f"trainer.devices={devices}: this machine has {count} GPUs")


def build_trainer(
    options: schema.Trainer, folder: Path, *, loggers: list[Logger], callbacks: list[Callback]
) -> pl.Trainer:
    require_gpu("trainer.accelerator", options.accelerator)
    _check_devices(options)
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
