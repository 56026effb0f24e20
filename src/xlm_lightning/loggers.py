"""The loggers of a run: `metrics.csv` always, dashboards beside it on request."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import Logger

from xlm_lightning import schema
from xlm_lightning.dashboards.dashboard import Dashboard, run_name
from xlm_lightning.dashboards.tensorboard_files import TensorBoardFiles
from xlm_lightning.dashboards.trackio_run import TrackioRun
from xlm_lightning.dashboards.wandb_run import Labels, WandbRun
from xlm_lightning.errors import UserError
from xlm_lightning.metrics_csv import MetricsCsv
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.sweep.folder import sweep_of


def build_loggers(options: schema.Logger, config: dict[str, Any], run: RunFolder) -> list[Logger]:
    """Return the loggers in the order in which they write; `config` is shown on a dashboard.

    Raises `UserError` where one is not installed, or has no place to write.
    """
    metrics = MetricsCsv(run.metrics)
    loggers: list[Logger] = [metrics]
    if options.tensorboard is not None:
        folder = _place("tensorboard", run.path / options.tensorboard.folder)
        loggers.append(TensorBoardFiles(folder, config))
    if options.trackio is not None:
        folder = _place("trackio", run.path / options.trackio.folder)
        loggers.append(TrackioRun(run.path, options.trackio.project, folder, config))
    if options.wandb is not None:
        _place("wandb", run.path / "wandb")  # else it would be the system's temporary folder
        loggers.append(_wandb(options.wandb, config, run, metrics))
    return loggers


def open_loggers(loggers: Iterable[Logger]) -> None:
    """Begin now, before the first step, what may be refused: by wandb, a key or a network."""
    for logger in loggers:
        if isinstance(logger, Dashboard):
            logger.open()


def close_loggers(loggers: Iterable[Logger], summary: Mapping[str, Any]) -> None:
    """End what would else end at exit: wandb would print below the JSON line."""
    for logger in loggers:
        if isinstance(logger, Dashboard):
            logger.close(summary)


def _place(package: str, folder: Path) -> Path:
    """Return `folder`, where the logger that needs `package` may write."""
    if find_spec(package) is None:
        raise UserError(f"logger={package} needs {package}: pip install 'xlm-lightning[{package}]'")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"run.dir={folder.parent}: {folder} is a file, where a folder is needed")
    return folder


def _wandb(
    options: schema.Wandb, config: dict[str, Any], run: RunFolder, metrics: MetricsCsv
) -> WandbRun:
    sweep = sweep_of(run.path)
    name = run_name(run.path)
    labels = Labels(
        id=re.sub(r"[^\w.-]", "-", name),  # with the sweep's name: its jobs are 0, 1, ...
        name=options.name or name,
        project=options.project,
        entity=options.entity,
        group=options.group or sweep or config["run"]["experiment"],
        job_type=options.job_type or ("train" if sweep is None else "sweep"),
        tags=options.tags,
    )
    offline = options.mode == "offline" or (options.mode == "auto" and not _logged_in())
    return WandbRun(
        run.path,
        labels,
        config,
        metrics.rows_before,
        offline=offline,
        log_checkpoints=options.log_checkpoints,
    )


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
