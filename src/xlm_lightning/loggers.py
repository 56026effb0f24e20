"""The loggers of a run: `metrics.csv` always, wandb and TensorBoard beside it on request."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from xlm_lightning import schema
from xlm_lightning.errors import UserError
from xlm_lightning.metrics_csv import MetricsCsv
from xlm_lightning.run_folder import RunFolder


def build_loggers(options: schema.Logger, config: dict[str, Any], run: RunFolder) -> list[Logger]:
    """Return the loggers in the order in which they write; `config` is shown on a dashboard.

    Raises `UserError` where one is not installed, or has no place to write.
    """
    loggers: list[Logger] = [MetricsCsv(run.metrics)]
    if options.tensorboard is not None:
        loggers.append(_tensorboard(options.tensorboard, run))
    if options.wandb is not None:
        loggers.append(_wandb(options.wandb, config, run))
    return loggers


def open_loggers(loggers: Iterable[Logger]) -> None:
    """Begin wandb's run now: a key or a network that fails is told before the first step."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            from wandb.errors import Error

            try:
                _ = logger.experiment
            except Error as error:
                reason = " ".join(str(error).split())
                raise UserError(
                    f"logger=wandb: {reason}; say logger.wandb.mode=offline, and later wandb sync"
                ) from error


def close_loggers(loggers: Iterable[Logger]) -> None:
    """End wandb's run now: at exit it would print below the JSON line, and a sweep's jobs mix."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _tensorboard(options: schema.Tensorboard, run: RunFolder) -> Logger:
    _refuse_a_file(run.path / options.folder)
    try:
        return TensorBoardLogger(run.path, name=options.folder, version="")
    except ModuleNotFoundError as error:
        raise UserError(
            "logger=tensorboard needs TensorBoard: pip install 'xlm-lightning[tensorboard]'"
        ) from error


def _wandb(options: schema.Wandb, config: dict[str, Any], run: RunFolder) -> Logger:
    offline = options.mode == "offline" or (options.mode == "auto" and not _logged_in())
    name = f"{run.path.absolute().parent.name}-{run.path.name}"
    _refuse_a_file(run.path / "wandb")  # it would write into the system's temporary folder
    try:
        return WandbLogger(
            name=options.name or name,
            save_dir=run.path,
            id=re.sub(r"[^\w.-]", "-", name),  # with the sweep's name: its jobs are 0, 1, ...
            project=options.project,
            entity=options.entity,
            group=options.group,
            tags=options.tags,
            config=config,
            offline=offline,
            resume="allow" if not offline else None,
        )
    except ModuleNotFoundError as error:
        raise UserError("logger=wandb needs wandb: pip install 'xlm-lightning[wandb]'") from error


def _refuse_a_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"run.dir={folder.parent}: {folder} is a file, where a folder is needed")


def _logged_in() -> bool:
    """Whether wandb would find an account key, without asking for one or reaching the network."""
    if os.environ.get("WANDB_MODE") == "offline":
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
