"""The loggers of a run: `metrics.csv` always, wandb and TensorBoard beside it on request."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from xlm_lightning import schema
from xlm_lightning.errors import UserError
from xlm_lightning.metrics_csv import MetricsCsv
from xlm_lightning.run_folder import RunFolder


def build_loggers(options: schema.Logger, config: dict[str, Any], run: RunFolder) -> list[Logger]:
    """Return the loggers in the order in which they write; `config` is shown on a dashboard."""
    loggers: list[Logger] = [MetricsCsv(run.metrics)]
    if options.tensorboard is not None:
        loggers.append(_tensorboard(options.tensorboard, run))
    if options.wandb is not None:
        loggers.append(_wandb(options.wandb, config, run))
    return loggers


def close_loggers(loggers: Iterable[Logger]) -> None:
    """End wandb's run now: at exit it would print below the JSON line, and a sweep's jobs mix."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _tensorboard(options: schema.Tensorboard, run: RunFolder) -> Logger:
    try:
        return TensorBoardLogger(run.path, name=options.folder, version="")
    except ModuleNotFoundError as error:
        raise UserError(
            "logger=tensorboard needs TensorBoard: pip install 'xlm-lightning[tensorboard]'"
        ) from error


def _wandb(options: schema.Wandb, config: dict[str, Any], run: RunFolder) -> Logger:
    offline = options.mode == "offline" or (options.mode == "auto" and not _logged_in())
    name = f"{run.path.absolute().parent.name}-{run.path.name}"
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
