"""The callbacks of a run: what happens beside training, and what decides which weights are best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pytorch_lightning.callbacks import Callback, EarlyStopping, Timer

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
from xlm_lightning.callbacks.translations import OwnTranslations
from xlm_lightning.checkpoint_writer import CheckpointWriter
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.energy_meter import check_country
from xlm_lightning.monitor import BLEU, PERPLEXITY, Monitor
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.streaming.turns import CLM, TRANSLATION
from xlm_lightning.text.pipeline import TextPipeline


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
    monitor = BLEU if config.translates else PERPLEXITY
    faults = NumericalFaults(options.max_skipped_steps)
    figures = TrainingFigures(config.trainer.log_every_n_steps)
    timer = _timer(config.trainer)
    signals = StopSignals(timer)
    best = BestCheckpoint(
        run.checkpoints,
        filename="best-{step:08d}",
        monitor=monitor.name,
        mode=monitor.mode,
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
    optional = [_early_stopping(options, monitor), timer, samples, energy]
    present = [callback for callback in optional if callback is not None]
    in_order: list[Callback] = [faults, figures, signals, *present, progress, best, last]
    return RunCallbacks(in_order, faults, figures, signals, best, last, writer, energy)


def _samples(
    config: schema.Train,
    run: RunFolder,
    pipelines: Mapping[str, TextPipeline],
    data: StreamingDataModule,
) -> Samples | None:
    """A translator translates, a causal model writes, a masked one fills gaps."""
    options = config.callbacks.samples
    if options.new_tokens == 0:
        return None
    if set(TRANSLATION) & set(data.turns.objectives):
        shards = data.pair_shards("valid", data.max_positions - 2)
        return Samples(run.samples, OwnTranslations(pipelines, shards))
    if CLM in data.turns.objectives:
        return Samples(run.samples, OwnText(pipelines, seed=config.seed, **asdict(options)))
    return Samples(run.samples, FilledGaps(pipelines, data.shards("valid")))


def _energy(config: schema.Train, figures: TrainingFigures) -> Energy | None:
    if not config.carbon or config.energy.country is None:
        return None
    check_country(config.energy.country)
    return Energy(config.energy.country, figures)


def _early_stopping(options: schema.Callbacks, monitor: Monitor) -> EarlyStopping | None:
    patience = options.early_stopping_patience
    if patience is None:
        return None
    return EarlyStopping(monitor.name, patience=patience, mode=monitor.mode)


def _timer(options: schema.Trainer) -> Timer | None:
    """The clock of `trainer.max_time`; `StopSignals` looks at it."""
    limit = options.max_time
    return None if limit is None else Timer(limit, interval="epoch", verbose=False)
