"""From an accepted configuration to the objects of a run: its values become plain arguments."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from xlm_lightning import schema
from xlm_lightning.checkpoint_writer import CheckpointWriter
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.launch import World, launched, use_network_interface, world_of
from xlm_lightning.machine import cpu_has_bf16, fastest_precision, require_gpu, uses_gpu
from xlm_lightning.model import XLM
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.mirror import mirror_of
from xlm_lightning.streaming.noise import Noise
from xlm_lightning.streaming.read_ahead import fetch_at_start
from xlm_lightning.task import LanguageModeling
from xlm_lightning.text.vocabulary import FIRST_WORD_ID, Vocabulary
from xlm_lightning.translation_scores import TranslationScores
from xlm_lightning.translation_task import Translation
from xlm_lightning.translator import Translator


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


def build_task(
    config: schema.Train,
    model: XLM | Translator,
    data: StreamingDataModule,
    translations: TranslationScores | None = None,
) -> LanguageModeling:
    """Make what is trained: language modelling, or translation where the model is a translator,
    which needs `translations` to be judged by."""
    manifest = data.manifest
    make: Callable[..., LanguageModeling] = LanguageModeling
    if isinstance(model, Translator):
        assert translations is not None
        make = partial(Translation, scores=translations, directions=data.directions)
    return make(
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
    resting: bool = False,
) -> pl.Trainer:
    """`resting`: there are steps that leave a part of the weights without a gradient.

    Make Lightning's Trainer; where it counts micro-batches of a process, we count steps."""
    arguments = asdict(options) | asdict(world)
    arguments["val_check_interval"] *= world.accumulate_grad_batches
    del arguments["max_time"]  # a callback, so that the last checkpoint comes after it
    timeout = timedelta(seconds=arguments.pop("timeout_seconds"))
    arguments["strategy"] = _strategy(options.strategy, world, timeout, resting)
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


def _strategy(name: str, world: World, timeout: timedelta, resting: bool) -> Strategy | str:
    if name == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=world.size,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            timeout=timeout,
        )
    if name != "ddp" and world.size == 1:
        return name
    return DDPStrategy(timeout=timeout, find_unused_parameters=resting)


def _cluster_environment() -> ClusterEnvironment:
    """Tell Lightning who has started the processes; it would take a shell of SLURM for a launch."""
    started = launched()
    if started is None:
        return LightningEnvironment()
    if started.program == "torchrun":
        return TorchElasticEnvironment()
    os.environ["SLURM_NTASKS_PER_NODE"] = str(started.devices)  # wanted by Lightning, unset by -n
    return SLURMEnvironment(auto_requeue=False)
