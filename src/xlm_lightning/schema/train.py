"""What `xlm-train` may be told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from xlm_lightning.legality import (
    Above,
    AtLeast,
    AtMost,
    Below,
    Existing,
    FolderToBe,
    NotEmpty,
    OneOf,
    Verbatim,
)
from xlm_lightning.schema.data import Data
from xlm_lightning.schema.kinds import (
    Accelerator,
    Conflict,
    Count,
    Fraction,
    Positive,
    Precision,
    Seed,
    address_conflicts,
)
from xlm_lightning.schema.objective import TRANSLATION, Objective


@dataclass
class Run:
    """Where the run leaves its files."""

    experiment: str  # name of the run's family: the folder above the run's own
    dir: Annotated[str, NotEmpty(), FolderToBe(), Verbatim()]


Start = Annotated[str | None, NotEmpty(), Existing("checkpoint", hub=True), Verbatim()]


@dataclass
class Model:
    """The transformer. The vocabulary and the languages come with the data."""

    layers: Positive
    dim: Positive
    heads: Positive
    dropout: Fraction
    attention_dropout: Fraction
    max_positions: Positive
    init_from: Start  # None: random weights
    encoder_from: Start  # of a translator; None: as init_from says
    decoder_from: Start
    shared_embeddings: bool  # of a translator: encoder and decoder have one
    attention: Annotated[str, OneOf("auto", "strips", "sdpa")]
    dropout_method: Annotated[str, OneOf("auto", "torch", "byte_mask")]
    gradient_checkpointing: bool
    compile: bool
    init: Annotated[str, OneOf("original", "balanced")]
    position_init: Annotated[str, OneOf("random", "sinusoidal", "fixed_sinusoidal")]
    activation: Annotated[str, OneOf("gelu", "relu")]
    language_embeddings: bool
    tied_output: bool


@dataclass
class Optimizer:
    """`adam` is the original's: eps outside the bias correction, decoupled decay."""

    name: Annotated[str, OneOf("adam", "adamw")]
    lr: Annotated[float, Above(0)]
    betas: Annotated[list[float], AtLeast(0), Below(1)]
    eps: Annotated[float, Above(0)]
    weight_decay: Annotated[float, AtLeast(0)]


@dataclass
class Schedule:
    """Learning rate over steps; every curve starts with a linear warm-up."""

    name: Annotated[str, OneOf("constant", "inverse_sqrt", "cosine", "linear")]
    warmup_steps: Count
    min_lr: Annotated[float, AtLeast(0)]  # where cosine and linear end; the others ignore it


@dataclass
class Trainer:
    """Arguments of Lightning's Trainer under their own names."""

    accelerator: Accelerator
    devices: Any  # a number of devices per node, a list of their indices, or `auto`: all
    num_nodes: Any  # a number, or `auto`: as many as torchrun or srun has started, else 1
    strategy: Annotated[str, OneOf("auto", "ddp", "fsdp")]
    precision: Precision
    max_steps: Positive  # optimizer steps
    max_time: str | None  # DD:HH:MM:SS
    accumulate_grad_batches: Annotated[int | None, AtLeast(1)]  # None: from data.slots_per_step
    gradient_clip_val: Annotated[float, AtLeast(0)]  # global norm; 0: off
    val_check_interval: Positive  # optimizer steps between validations
    num_sanity_val_steps: Annotated[int, AtLeast(-1), AtMost(0)]  # -1: a validation at step 0
    log_every_n_steps: Positive
    detect_anomaly: bool
    timeout_seconds: Positive  # for which a process may be silent
    network_interface: Annotated[str | None, NotEmpty()]  # between hosts; None: what torch finds


@dataclass
class Checkpoint:
    """Which checkpoints are written and kept."""

    every_n_steps: Positive
    keep_last: Positive
    keep_every_n_steps: Annotated[int | None, AtLeast(1)]
    keep_best: Count


@dataclass
class Wandb:
    """Weights & Biases. The login is wandb's own business: no account key belongs in a config."""

    project: str
    entity: str | None
    group: str | None  # None: the name of the sweep, else of the experiment
    job_type: str | None  # None: sweep, else train
    name: str | None
    tags: list[str]
    mode: Annotated[str, OneOf("auto", "online", "offline")]  # auto: offline when there is no login
    log_checkpoints: bool  # the best and the last one, as artifacts, at the run's end


@dataclass
class Tensorboard:
    """TensorBoard files below the run folder."""

    folder: str


@dataclass
class Trackio:
    """Trackio's database below the run folder."""

    project: Annotated[str, NotEmpty()]
    folder: Annotated[str, NotEmpty()]


@dataclass
class Logger:
    """Loggers beside metrics.csv, which is always written."""

    wandb: Wandb | None
    tensorboard: Tensorboard | None
    trackio: Trackio | None


@dataclass
class Samples:
    """Text written in every language at every validation."""

    new_tokens: Count  # 0: none
    temperature: Annotated[float, AtLeast(0)]  # 0: the most probable token
    top_k: Count  # 0: all


@dataclass
class Callbacks:
    """What happens beside training."""

    samples: Samples
    max_skipped_steps: Positive  # in a row, for losses or gradients that are not finite
    early_stopping_patience: Annotated[int | None, AtLeast(1)]  # validations without progress
    progress_seconds: Annotated[float, AtLeast(0)]  # between two progress lines; 0: every step


@dataclass
class Energy:
    """Where the run's electricity comes from; `carbon` turns measuring on."""

    country: Annotated[str | None, NotEmpty()]  # three letters, ISO 3166
    region: Annotated[str | None, NotEmpty(), Verbatim()]  # told in the model card
    provider: Annotated[str | None, NotEmpty(), Verbatim()]  # told in the model card


@dataclass
class Train:
    """xlm-train."""

    seed: Seed
    resume: Annotated[str, NotEmpty(), Existing("checkpoint", unless=("auto", "never")), Verbatim()]
    run: Run
    data: Data
    model: Model
    objective: Objective
    optimizer: Optimizer
    schedule: Schedule
    trainer: Trainer
    checkpoint: Checkpoint
    logger: Logger
    callbacks: Callbacks
    carbon: bool  # measure the energy that the run uses
    energy: Energy

    @property
    def translates(self) -> bool:
        """Whether it trains a translator."""
        return bool(set(TRANSLATION) & self.objective.curves().keys())

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        model, data, trainer = self.model, self.data, self.trainer
        yield from address_conflicts(data.dir)
        if model.dim % model.heads:
            yield f"model.heads={model.heads}", f"must divide model.dim={model.dim}"
        if data.stream_length > model.max_positions:
            yield (
                f"data.stream_length={data.stream_length}",
                f"must be at most model.max_positions={model.max_positions}",
            )
        sentences = {"tlm", *TRANSLATION} & self.objective.curves().keys()
        if sentences and data.sentence_max_length + 2 > model.max_positions:
            yield (
                f"data.sentence_max_length={data.sentence_max_length}",
                f"and two </s> must be at most model.max_positions={model.max_positions}",
            )
        if self.schedule.warmup_steps > trainer.max_steps:
            yield (
                f"schedule.warmup_steps={self.schedule.warmup_steps}",
                f"must be at most trainer.max_steps={trainer.max_steps}",
            )
        if self.schedule.min_lr > self.optimizer.lr:
            yield (
                f"schedule.min_lr={self.schedule.min_lr:g}",
                f"must be at most optimizer.lr={self.optimizer.lr:g}",
            )
        if len(self.optimizer.betas) != 2:
            yield (
                f"optimizer.betas={self.optimizer.betas}",
                "must be two numbers, such as [0.9,0.999]",
            )
        often, kept = self.checkpoint.every_n_steps, self.checkpoint.keep_every_n_steps
        if kept is not None and kept % often:
            yield (
                f"checkpoint.keep_every_n_steps={kept}",
                f"must be a multiple of checkpoint.every_n_steps={often}",
            )
        if self.carbon and self.energy.country is None:
            yield "carbon=true", "needs the country of the electricity, such as energy.country=DEU"
        yield from self.objective.conflicts(data.stream_length, trainer.max_steps)
        yield from _translation_conflicts(self)
        yield from _trainer_conflicts(trainer)


def _translation_conflicts(config: Train) -> Iterator[Conflict]:
    model = config.model
    if not config.translates:
        for key in ("encoder_from", "decoder_from", "shared_embeddings"):
            if getattr(model, key):
                told = f"model.{key}={getattr(model, key)}"
                yield told, "is of a translator; give objective.ae, bt or mt a weight"
    elif config.trainer.strategy == "fsdp":
        yield (
            "trainer.strategy=fsdp",
            "cannot translate: its ranks would wait for each other word by word; say ddp",
        )


def _trainer_conflicts(trainer: Trainer) -> Iterator[Conflict]:
    if not _is_devices(trainer.devices):
        yield (
            f"trainer.devices={trainer.devices}",
            "must be a number from 1, 'auto', or a list of device indices such as [0,1]",
        )
    if trainer.max_time is not None and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", trainer.max_time):
        yield f"trainer.max_time={trainer.max_time}", "must be null or DD:HH:MM:SS, as 00:00:10:00"
    if trainer.num_nodes != "auto" and not (_is_index(trainer.num_nodes) and trainer.num_nodes):
        yield f"trainer.num_nodes={trainer.num_nodes}", "must be a number from 1, or 'auto'"
    if trainer.accelerator == "cpu" and isinstance(trainer.devices, list):
        yield f"trainer.devices={trainer.devices}", "on a CPU must be a number of processes"
    if trainer.accelerator == "cpu" and trainer.precision == "16-true":
        yield "trainer.precision=16-true", "needs a GPU; on a CPU say bf16-mixed or 32"


def _is_devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_index, value)) and len(set(value)) == len(value)
    return value == "auto" or (_is_index(value) and value > 0)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
