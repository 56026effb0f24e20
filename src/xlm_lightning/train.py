"""`xlm-train`: the contents of one run. The loop is Lightning's; one step is in `task.py`."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from xlm_lightning import schema
from xlm_lightning.assembly import (
    build_data,
    build_task,
    build_trainer,
    build_world,
)
from xlm_lightning.beginning import build_model
from xlm_lightning.callbacks.agreement import Agreement
from xlm_lightning.callbacks.stop_signals import Stopped
from xlm_lightning.checkpoint import checkpoint_bytes, refuse_another_model, resume_point
from xlm_lightning.closing import conclude, say_how_to_resume, say_what_goes_on
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.errors import UserError
from xlm_lightning.launch import lost_contact
from xlm_lightning.loggers import build_loggers, close_loggers, open_loggers
from xlm_lightning.machine import allow_deterministic_kernels, keep_freed_memory, uses_gpu
from xlm_lightning.provenance import provenance, weights_sha256
from xlm_lightning.report import leave_report
from xlm_lightning.run_callbacks import RunCallbacks, build_callbacks
from xlm_lightning.run_folder import RunFolder, prepared_text_model
from xlm_lightning.sharding import whole_weights
from xlm_lightning.slurm import requeued_after
from xlm_lightning.streaming.turns import MT, TLM
from xlm_lightning.task import LanguageModeling
from xlm_lightning.translation_scores import TranslationScores


def train(config: schema.Train, command: Sequence[str]) -> dict[str, Any]:
    """Train, evaluate the best checkpoint, and return the summary of the contract."""
    _prepare_process(config)
    run = RunFolder(Path(config.run.dir))
    resume_from = resume_point(config.resume, run)
    world = build_world(config)
    data = build_data(config, world)
    beginning = build_model(config.model, config.trainer.accelerator, data)
    model = beginning.model
    if resume_from is not None:
        refuse_another_model(resume_from, model)
    pipelines = prepared_text_model(data.folder, data.manifest).pipelines()
    task = build_task(config, model, data, TranslationScores(pipelines, run.translations))
    callbacks = build_callbacks(config, run, pipelines, data)
    agreement = Agreement(
        run,
        asdict(config),
        command[1:],
        resume_from,
        lambda trainer: _provenance(config, command, trainer, data, beginning.start),
    )
    loggers = build_loggers(config.logger, asdict(config), run)
    trainer = build_trainer(
        config.trainer,
        world,
        run.path,
        loggers=loggers,
        callbacks=[agreement, *callbacks.all],
        writer=callbacks.writer,
        resting=task.rests,
    )
    with ExitStack() as held:
        heard = held.enter_context(_kept_warnings())
        if trainer.is_global_zero:
            held.enter_context(run.held())
            run.require_room(checkpoint_bytes(model, str(trainer.precision)))
            if resume_from is not None:
                say_what_goes_on(resume_from, run.config(), asdict(config))
                callbacks.last.begin_with(resume_from)
            run.copy_text_model(data.folder, data.manifest)
            run.write_config(asdict(config), command)
            open_loggers(loggers)

        started = time.monotonic()
        summary: dict[str, Any] = {"run_dir": str(run.path), "experiment": config.run.experiment}
        signals = callbacks.signals
        with signals.handled():
            try:
                trainer.fit(task, data, ckpt_path=resume_from)
                seconds = time.monotonic() - started
                summary |= _figures(trainer, task, callbacks, config.seed, seconds)
                if signals.stopped_by is None:
                    summary |= conclude(
                        trainer,
                        task,
                        data,
                        callbacks.best.best_model_path,
                        run,
                        pipelines,
                        config.callbacks.samples,
                    )
            except Stopped:
                pass
            except UserError:
                raise
            except Exception as error:
                if trainer.is_global_zero:
                    with suppress(OSError):  # a full disk, perhaps the error itself
                        reason = f"{type(error).__name__}: {error}"
                        run.write_summary(summary | {"status": "failed", "error": reason})
                _end_children(trainer)
                lost = lost_contact(error, config.trainer.timeout_seconds, run.path)
                if lost is not None:
                    raise lost from error
                raise
        summary = {"status": "stopped" if signals.stopped_by else "finished", **summary}
        if heard:
            summary["warnings"] = heard
        if trainer.is_global_zero:
            run.write_summary(summary)
            close_loggers(loggers, summary)
            leave_report(run.path)
        if signals.stopped_by:
            summary["exit_code"] = 128 + signals.stopped_by
            if not (trainer.is_global_zero and requeued_after(signals.stopped_by)):
                if trainer.is_global_zero:
                    say_how_to_resume(command, run)
                _wait_for_rank_0(trainer)
        return summary


def _prepare_process(config: schema.Train) -> None:
    """Seed, keep memory, and leave out what Lightning says at every start."""
    if uses_gpu(config.trainer.accelerator):
        allow_deterministic_kernels()
    else:
        keep_freed_memory()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*`srun` command is available.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*GPU available but not used.*",
        ".*LeafSpec.*",
        ".*AccumulateGrad node's stream.*",  # Lightning makes DDP on a stream of its own
        ".*FLOPs not found.*",  # of a new GPU; then no utilisation is shown
        ".*sync_dist=True.*",  # what is logged has been summed over the ranks already
    ):
        warnings.filterwarnings("ignore", message)


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """Keep each Python warning once, besides showing it: the report repeats them."""
    kept: list[str] = []
    show = warnings.showwarning

    def show_and_keep(message: Warning | str, *rest: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        if text not in kept:
            kept.append(text)
        show(message, *rest, **more)

    warnings.showwarning = show_and_keep
    try:
        yield kept
    finally:
        warnings.showwarning = show


def _figures(
    trainer: pl.Trainer,
    task: LanguageModeling,
    callbacks: RunCallbacks,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """What the summary says of training; called on all ranks. `seconds`: of this start."""
    return {
        "steps": trainer.global_step,
        "tokens_seen": callbacks.figures.tokens_seen,
        "seconds": seconds,
        "skipped_steps": callbacks.faults.skipped_steps,
        "tokens_per_second": callbacks.figures.tokens_per_second,
        "precision": str(trainer.precision),
        "accelerator": trainer.strategy.root_device.type,  # by now the model is back on the CPU
        "world_size": trainer.world_size,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "best_checkpoint": callbacks.best.best_model_path or None,
        "last_checkpoint": str(callbacks.last.path),
        "weights_sha256": weights_sha256(whole_weights(task, task.model)),
        **({} if callbacks.energy is None else {"energy": callbacks.energy.summary()}),
    }


def _end_children(trainer: pl.Trainer) -> None:
    """Leave no process behind that Lightning has started: a silent one hears nothing else."""
    launcher = trainer.strategy.launcher
    if launcher is not None:
        launcher.kill(signal.SIGKILL)


def _wait_for_rank_0(trainer: pl.Trainer) -> None:
    """Stay until its files are whole: srun and torchrun end all processes after the first one."""
    with suppress(RuntimeError):  # it has left: SLURM will end us
        trainer.strategy.barrier()


def _provenance(
    config: schema.Train,
    command: Sequence[str],
    trainer: pl.Trainer,
    data: StreamingDataModule,
    start: dict[str, str],
) -> dict[str, Any]:
    shares = {}  # what part of the tokens each language is to get, of pairs that of batches
    if not set(data.turns.objectives) <= {TLM, MT}:
        shares["language_shares"] = data.plan.probabilities
    if data.pair_slots is not None:
        shares["pair_shares"] = data.pair_slots.plan.probabilities
    return provenance(
        command=command,
        seed=config.seed,
        data_dir=config.data.dir,
        data_folder=data.folder,
        manifest=data.manifest,
        shares=shares,
        start=start,
        precision_asked=config.trainer.precision,
        precision_used=str(trainer.precision),
        world_size=trainer.world_size,
    )
