"""The report of several runs: the jobs of a sweep, or runs that somebody wants to compare."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from typing import Any

from xlm_lightning.errors import UserError
from xlm_lightning.monitor import BLEU, PERPLEXITY, Monitor
from xlm_lightning.reporting import plots
from xlm_lightning.reporting.chance import compared
from xlm_lightning.reporting.coordinates import parallel_coordinates
from xlm_lightning.reporting.page import Plot, render
from xlm_lightning.reporting.record import RunRecord, number_of
from xlm_lightning.reporting.run_page import remarks
from xlm_lightning.reporting.table2 import table2
from xlm_lightning.reporting.transfer import transfer_plot
from xlm_lightning.wording import typed

SWEEP_TABLE = "sweep.csv"
_OF_ONE_RUN = ("run.", "resume", "logger.wandb.name")  # keys that are never the same
_OF_THE_TABLE = (
    "job",
    "status",
    "exit_code",
    "perplexity",
    "bleu",
    "by_language",
    "seconds",
    "run_dir",
    "error",
    "command",
)
MAX_CURVES = 60  # in a plot; more could not be told apart
FAR_APART = 20  # from the lowest value to the highest: on a plain scale all but one would be flat


@dataclass(frozen=True)
class Member:
    """A run among others; a job that failed at once has left no folder."""

    name: str
    status: str
    choice: Mapping[str, Any]  # of the keys in which the members differ
    perplexity: float | None  # mean over languages
    bleu: float | None  # of a translator, mean over directions
    seconds: float | None
    error: str | None = None
    command: str | None = None
    run: RunRecord | None = None
    link: str | None = None  # its own report, seen from that of the group


def sweep_members(folder: Path) -> list[Member]:
    """Return the jobs of a sweep's table, with their run folders where there are any."""
    with (folder / SWEEP_TABLE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"job", "status", "perplexity"} <= rows[0].keys():
        raise UserError(f"runs={folder}: {SWEEP_TABLE} holds no table of a sweep")
    return [_job(folder, row) for row in rows]


def compared_members(folders: Sequence[Path], report: Path) -> list[Member]:
    """Return runs with what differs between their configurations; `report` will link to them."""
    runs = [RunRecord.read(folder) for folder in folders]
    keys = {key: None for run in runs for key in run.flat_config}
    differing = [
        key
        for key in keys
        if not key.startswith(_OF_ONE_RUN)
        and len({str(run.flat_config.get(key)) for run in runs}) > 1
    ]
    return [
        Member(
            name=run.name,
            status=run.status,
            choice={key: run.flat_config.get(key) for key in differing},
            perplexity=_last(run, PERPLEXITY),
            bleu=_last(run, BLEU),
            seconds=run.summary.get("seconds"),
            error=run.summary.get("error"),
            run=run,
            link=_link(run.folder, report.parent),
        )
        for run in runs
    ]


def group_page(title: str, members: Sequence[Member]) -> str:
    """Return the HTML of a report on several runs."""
    members = _with_short_paths(members)
    monitor = _monitor(members)
    best = _best(members, monitor)
    keys = list(members[0].choice)
    languages = list(dict.fromkeys(name for m in members if m.run for name in m.run.languages))
    return render(
        "group.html",
        title=title,
        members=members,
        best=best,
        bleu=monitor == BLEU,
        keys=keys,
        languages=languages,
        counts=_counts(members),
        typed=typed,
        coordinates=_coordinates(members, keys, best, monitor),
        transfer=transfer_plot([member.run for member in members if member.run]),
        comparisons=compared([(member.name, member.run) for member in members if member.run]),
        table2=table2([member.run for member in members if member.run]),
        legend=[_label(member) for member in _with_run(members)],
        colours=plots.COLOURS,
        courses=list(_courses(members)),
        failed=[member for member in members if member.error],
        remarks=_remarks(members),
        samples=[(m.name, m.run.samples[-1]) for m in members if m.run and m.run.samples],
    )


def _job(folder: Path, row: Mapping[str, str]) -> Member:
    run = folder / row["job"]
    if not run.is_dir() and row["run_dir"]:  # the user has named it
        run = Path(row["run_dir"])
    record = RunRecord.read(run) if (run / "config.yaml").is_file() else None
    return Member(
        name=row["job"],
        status=row["status"],
        choice={key: number_of(value) for key, value in row.items() if key not in _OF_THE_TABLE},
        perplexity=float(row["perplexity"]) if row["perplexity"] else None,
        bleu=float(row["bleu"]) if row.get("bleu") else None,  # older tables have none
        seconds=float(row["seconds"]) if row["seconds"] else None,
        error=row["error"] or None,
        command=row["command"],
        run=record,
        link=_link(run, folder),
    )


def _link(run: Path, seen_from: Path) -> str | None:
    report = (run / "report.html").absolute()
    if report.is_file() and report.is_relative_to(seen_from.absolute()):
        return report.relative_to(seen_from.absolute()).as_posix()
    return None


def _with_short_paths(members: Sequence[Member]) -> list[Member]:
    """Paths that one key was given are shown from where they part."""
    folders = {}
    for key in members[0].choice:
        values = [str(x) for member in members if (x := member.choice[key]) not in (None, "null")]
        levels = zip(*(value.split("/")[:-1] for value in values), strict=False)
        shared = takewhile(lambda names: len(set(names)) == 1, levels)
        folders[key] = "".join(f"{names[0]}/" for names in shared)
    return [
        replace(member, choice={key: _below(folders[key], x) for key, x in member.choice.items()})
        for member in members
    ]


def _below(folder: str, value: Any) -> Any:
    return value.removeprefix(folder) or value if isinstance(value, str) else value


def _last(run: RunRecord, monitor: Monitor) -> float | None:
    """That of all the valid text, or of the last validation for a run that did not come so far."""
    mean = run.summary.get("valid", {}).get("mean", {}).get(monitor.figure)
    if mean is not None:
        return float(mean)
    curve = run.curve(monitor.name)
    return curve[-1].value if curve else None


def _monitor(members: Sequence[Member]) -> Monitor:
    """What they are compared by: BLEU where all of them translate."""
    scored = _scored(members, PERPLEXITY)
    return BLEU if scored and all(member.bleu is not None for member in scored) else PERPLEXITY


def _best(members: Sequence[Member], monitor: Monitor) -> Member | None:
    finished = [member for member in _scored(members, monitor) if member.status == "finished"]
    best_of = min if monitor.mode == "min" else max
    return best_of(finished, key=attrgetter(monitor.figure), default=None)


def _counts(members: Sequence[Member]) -> str:
    statuses = [member.status for member in members]
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))


def _coordinates(
    members: Sequence[Member], keys: Sequence[str], best: Member | None, monitor: Monitor
) -> Plot | None:
    """Only runs with a figure; a single one has nothing to show."""
    scored = _scored(members, monitor)
    if len(scored) < 2 or not keys:
        return None
    columns = [(key, [member.choice[key] for member in scored]) for key in keys]
    name = "BLEU" if monitor == BLEU else monitor.figure
    columns.append((name, [getattr(member, monitor.figure) for member in scored]))
    better = "lower" if monitor.mode == "min" else "higher"
    return Plot(
        "Choices and what came of them",
        f"A line a run, through the values it was given to its {name}; {better} is better. "
        + ("The best one stands out." if best else ""),
        parallel_coordinates(
            columns, [member.name for member in scored], best.name if best else None
        ),
    )


def _scored(members: Sequence[Member], monitor: Monitor) -> list[Member]:
    """Those with a figure that is a number: a diverged run may have an infinite perplexity."""
    figures = [(member, getattr(member, monitor.figure)) for member in members]
    return [member for member, x in figures if x is not None and math.isfinite(x)]


def _with_run(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.run is not None][:MAX_CURVES]


def _courses(members: Sequence[Member]) -> Iterator[Plot]:
    shown = {_label(member): member.run for member in _with_run(members) if member.run}
    for title, what, column in (
        ("Mean BLEU on the valid text", "BLEU", BLEU.name),
        ("Mean perplexity on the valid text", "perplexity", PERPLEXITY.name),
        ("Training loss", "loss", "train/loss"),
        ("Throughput", "tokens per second", "train/tokens_per_second"),
    ):
        series = {name: run.curve(column) for name, run in shown.items()}
        values = [point.value for curve in series.values() for point in curve]
        if values:
            far_apart = min(values) > 0 and max(values) > FAR_APART * min(values)
            logarithmic = far_apart and column != BLEU.name  # which is a share already
            spec = plots.curves(series, what, logarithmic=logarithmic, legend=False)
            yield Plot(title, "", spec)


def _remarks(members: Sequence[Member]) -> dict[str, list[str]]:
    """What is to be known, and of which runs."""
    found: dict[str, list[str]] = {}
    for member in members:
        for remark in remarks(member.run) if member.run else ():
            found.setdefault(remark, []).append(member.name)
    return found


def _label(member: Member) -> str:
    choice = ", ".join(
        f"{key.rpartition('.')[2]} {typed(value)}" for key, value in member.choice.items()
    )
    return f"{member.name}: {choice}" if 0 < len(choice) < 50 else member.name
