"""From an accepted configuration to the objects of a run: its values become plain arguments."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.callbacks import Callback, EarlyStopping, Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from xlm_lightning import schema
from xlm_lightning.callbacks.best_checkpoint import BestCheckpoint
from xlm_lightning.callbacks.energy import Energy
from xlm_lightning.callbacks.faults import NumericalFaults
from xlm_lightning.callbacks.figures import TrainingFigures
from xlm_lightning.callbacks.fillings import FilledGaps
from xlm_lightning.callbacks.last_checkpoint import LastCheckpoint
from xlm_lightning.callbacks.progress import Progress
from xlm_lightning.callbacks.samples import OwnText, Samples
from xlm_lightning.callbacks.stop_signals import StopSignals
from xlm_lightning.checkpoint_writer import CheckpointWriter
from xlm_lightning.compilation import can_compile
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.energy_meter import check_country
from xlm_lightning.launch import World, launched, use_network_interface, world_of
from xlm_lightning.machine import cpu_has_bf16, fastest_precision, require_gpu, uses_gpu
from xlm_lightning.model import XLM
from xlm_lightning.pretrained import load_model
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.mirror import mirror_of
from xlm_lightning.streaming.noise import Noise
from xlm_lightning.streaming.read_ahead import fetch_at_start
from xlm_lightning.streaming.turns import CLM
from xlm_lightning.task import MONITOR, LanguageModeling
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.vocabulary import FIRST_WORD_ID, Vocabulary
from xlm_lightning.warm_start import warm_start


def build_world(config: schema.Train) -> World:
    """Count the processes before there is a Trainer to ask."""
    trainer = config.trainer
    require_gpu("trainer.accelerator", trainer.accelerator)
    return world_of(
        devices=trainer.devices,
        num_nodes=trainer.num_nodes,
        gpus=torch.cuda.device_count() if uses_gpu(trainer.accelerator) else None,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        slots_per_step=config.data.slots_per_step,
    )


def build_data(config: schema.Train, world: World) -> StreamingDataModule:
    data = config.data
    mirror = mirror_of(data.dir, Path(data.cache_dir), data.cache_gb, data.retry_minutes)
    folder = Path(data.dir) if mirror is None else mirror.folder
    module = StreamingDataModule(
        folder,
        batch_size=data.batch_size,
        stream_length=data.stream_length,
        alpha=data.alpha,
        shares=data.shares,
        workers=data.workers,
        seed=config.seed,
        slots_per_step=world.slots_per_step,
        objectives=config.objective.curves(),
        masking=_masking(config.objective.masking, folder),
        noise=Noise(**asdict(config.objective.noise)),
        sentence_tokens=data.sentence_tokens,
        sentence_max_length=data.sentence_max_length,
        max_positions=config.model.max_positions,
        max_pairs=data.max_pairs,
        max_valid_tokens=data.max_valid_tokens,
        overfit_slots=data.overfit_slots,
        reorder=data.reorder,
        mirror=mirror,
    )
    if mirror is not None:
        fetch_at_start(mirror, module.plan, module.turns.objectives)
    return module


def _masking(options: schema.Masking, folder: Path) -> Masking:
    counts = Vocabulary.load(folder / "vocab").counts
    return Masking(**asdict(options), counts=[*[0] * FIRST_WORD_ID, *counts])


def build_model(options: schema.Model, accelerator: str, data: StreamingDataModule) -> XLM:
    """Make the model for the words and languages of the data; say what a warm start matched."""
    arguments = asdict(options)
    init_from = arguments.pop("init_from")
    arguments["compile_on_gpu"] = arguments.pop("compile") and can_compile()
    if options.compile and uses_gpu(accelerator) and not can_compile():
        note = (
            "model.compile: needs Triton and a C compiler (gcc); without them a step takes longer"
        )
        print(note, file=sys.stderr)
    manifest = data.manifest
    model = XLM(vocab_size=manifest.vocab_size, num_languages=len(manifest.languages), **arguments)
    if init_from is not None:
        vocabulary = Vocabulary.load(data.folder / "vocab")
        print(
            warm_start(model, vocabulary, manifest.languages, load_model(init_from)),
            file=sys.stderr,
        )
    return model


def build_task(config: schema.Train, model: XLM, data: StreamingDataModule) -> LanguageModeling:
    manifest = data.manifest
    return LanguageModeling(
        model,
        objectives=data.turns.objectives,
        languages=manifest.languages,
        pairs=sorted(manifest.parallel.get("train", {})),
        bytes_per_token={split: manifest.bytes_per_token(split) for split in manifest.splits},
        optimizer=asdict(config.optimizer),
        schedule=asdict(config.schedule),
        stream_length=config.data.stream_length,
        context_size=config.objective.context_size,
        total_steps=config.trainer.max_steps,
        seed=config.seed,
    )


@dataclass(frozen=True)
class RunCallbacks:
    """All callbacks of a run, and by name those that its summary asks."""

    all: list[Callback]
    faults: NumericalFaults
    figures: TrainingFigures
    signals: StopSignals
    best: BestCheckpoint
    last: LastCheckpoint
    writer: CheckpointWriter  # no callback, but that of the checkpoints
    energy: Energy | None  # carbon=true


def build_callbacks(
    config: schema.Train,
    run: RunFolder,
    pipelines: Mapping[str, TextPipeline],
    data: StreamingDataModule,
) -> RunCallbacks:
    """Make the callbacks, in the order in which they act; checkpoints come last anyway."""
    options = config.callbacks
    faults = NumericalFaults(options.max_skipped_steps)
    figures = TrainingFigures(config.trainer.log_every_n_steps)
    timer = _timer(config.trainer)
    signals = StopSignals(timer)
    best = BestCheckpoint(
        run.checkpoints,
        filename="best-{step:08d}",
        monitor=MONITOR,
        save_top_k=config.checkpoint.keep_best,
        auto_insert_metric_name=False,
        save_weights_only=True,
        enable_version_counter=False,  # a step that is done again after a kill is the same
    )
    writer = CheckpointWriter()
    last = LastCheckpoint(
        run.checkpoints,
        writer,
        every_n_steps=config.checkpoint.every_n_steps,
        keep=config.checkpoint.keep_last,
        keep_every_n_steps=config.checkpoint.keep_every_n_steps,
    )
    progress = Progress(figures, options.progress_seconds, timer)
    samples = _samples(config, run, pipelines, data)
    energy = _energy(config, figures)
    optional = [_early_stopping(options), timer, samples, energy]
    present = [callback for callback in optional if callback is not None]
    in_order: list[Callback] = [faults, figures, signals, *present, progress, best, last]
    return RunCallbacks(in_order, faults, figures, signals, best, last, writer, energy)


def _samples(
    config: schema.Train,
    run: RunFolder,
    pipelines: Mapping[str, TextPipeline],
    data: StreamingDataModule,
) -> Samples | None:
    """A causal model writes, a masked one fills gaps."""
    options = config.callbacks.samples
    if options.new_tokens == 0:
        return None
    if CLM in data.turns.objectives:
        return Samples(run.samples, OwnText(pipelines, seed=config.seed, **asdict(options)))
    return Samples(run.samples, FilledGaps(pipelines, data.shards("valid")))


def _energy(config: schema.Train, figures: TrainingFigures) -> Energy | None:
    if not config.carbon or config.energy.country is None:
        return None
    check_country(config.energy.country)
    return Energy(config.energy.country, figures)


def _early_stopping(options: schema.Callbacks) -> EarlyStopping | None:
    patience = options.early_stopping_patience
    return None if patience is None else EarlyStopping(MONITOR, patience=patience, mode="min")


def _timer(options: schema.Trainer) -> Timer | None:
    """The clock of `trainer.max_time`; `StopSignals` looks at it."""
    limit = options.max_time
    return None if limit is None else Timer(limit, interval="epoch", verbose=False)


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
    options: schema.Trainer,
    world: World,
    folder: Path,
    *,
    loggers: list[Logger],
    callbacks: list[Callback],
    writer: CheckpointWriter,
) -> pl.Trainer:
    """Make Lightning's Trainer; where it counts micro-batches of a process, we count steps."""
    arguments = asdict(options) | asdict(world)
    arguments["val_check_interval"] *= world.accumulate_grad_batches
    del arguments["max_time"]  # a callback, so that the last checkpoint comes after it
    timeout = timedelta(seconds=arguments.pop("timeout_seconds"))
    arguments["strategy"] = _strategy(options.strategy, world, timeout)
    use_network_interface(
        arguments.pop("network_interface"),
        gloo_between_hosts=world.num_nodes > 1 and not uses_gpu(options.accelerator),
    )
    arguments["precision"] = choose_precision(options.precision, options.accelerator)
    return pl.Trainer(
        **arguments,
        default_root_dir=folder,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        logger=loggers,
        callbacks=callbacks,
        plugins=[writer, _cluster_environment()],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _strategy(name: str, world: World, timeout: timedelta) -> Strategy | str:
    if name == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=world.size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            timeout=timeout,
        )
    return DDPStrategy(timeout=timeout) if name == "ddp" or world.size > 1 else name


def _cluster_environment() -> ClusterEnvironment:
    """Tell Lightning who has started the processes; it would take a shell of SLURM for a launch."""
    started = launched()
    if started is None:
        return LightningEnvironment()
    if started.program == "torchrun":
        return TorchElasticEnvironment()
    os.environ["SLURM_NTASKS_PER_NODE"] = str(started.devices)  # wanted by Lightning, unset by -n
    return SLURMEnvironment(auto_requeue=False)
