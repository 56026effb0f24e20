"""`xlm-report`: one run, a sweep or several runs as one HTML file. Also written at their end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlm_lightning import schema
from xlm_lightning.atomic import write_text
from xlm_lightning.errors import UserError
from xlm_lightning.reporting.group_page import (
    SWEEP_TABLE,
    compared_members,
    group_page,
    sweep_members,
)
from xlm_lightning.reporting.record import RunRecord
from xlm_lightning.reporting.run_page import run_page
from xlm_lightning.reporting.table2 import write_table2
from xlm_lightning.reporting.transfer import write_transfer

REPORT = "report.html"


def report(config: schema.Report) -> dict[str, Any]:
    """Write the report and return its path."""
    folders = [Path(folder) for folder in config.folders()]
    out = None if config.out is None else Path(config.out)
    return {"report": str(write_report(folders, out))}


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report on a run, a sweep or a folder of runs (one of them), or on several runs.

    Into the folder itself, or the present one for several, unless `out` names a file. Raises
    `UserError` where there is nothing to report on, or the file cannot be written.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"runs={folder}: no such folder")
    path = out or (folders[0] / REPORT if len(folders) == 1 else Path(REPORT))
    page = _page(folders, path)
    try:
        write_text(path, page)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; out=FILE puts the report somewhere else"
        ) from error
    return path


def leave_report(folder: Path) -> None:
    """Write the report at the end of a run or a sweep, whose result is not lost for want of it."""
    try:
        print(f"report: {write_report([folder])}", file=sys.stderr)
        if (folder / SWEEP_TABLE).is_file():
            runs = [member.run for member in sweep_members(folder) if member.run]
            write_transfer(folder, runs)
            write_table2(folder, runs)
    except UserError as error:
        print(f"no report: {error}", file=sys.stderr)


def _page(folders: Sequence[Path], path: Path) -> str:
    if len(folders) > 1:
        return group_page("Runs side by side", compared_members(folders, path))
    (folder,) = folders
    if (folder / "config.yaml").is_file():
        return run_page(RunRecord.read(folder))
    name = "/".join(folder.absolute().parts[-2:])
    if (folder / SWEEP_TABLE).is_file():
        return group_page(name, sweep_members(folder))
    runs = sorted(file.parent for file in folder.glob("*/config.yaml"))
    if not runs:
        raise UserError(
            f"runs={folder}: neither a run (config.yaml) nor a sweep ({SWEEP_TABLE}), and no run "
            "lies in it; give the folder that xlm-train has named"
        )
    return group_page(name, compared_members(runs, path))
