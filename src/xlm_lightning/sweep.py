"""A sweep: every job a command in a process of its own, and a table of what came of them.

A fresh process frees all memory, starts its own distributed children with its own words and cannot
mix its logger's run with the next one's. All jobs are checked before the first starts; a failed job
does not stop the others, a signal stops the sweep.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from xlm_lightning.atomic import write_json, write_text
from xlm_lightning.compose import compose_jobs, run_id
from xlm_lightning.errors import UserError
from xlm_lightning.legality import check_files
from xlm_lightning.overrides import Command, Words

ANSWER_FILE = "XLM_SWEEP_ANSWER"  # environment: where a job leaves its result or its complaint
TABLE = "sweep.csv"


@dataclass(frozen=True)
class Ending:
    """What came of a job."""

    status: str  # finished, stopped, failed or not run
    code: int | None  # of its process
    perplexity: float | None  # mean over languages, of valid or what was scored
    seconds: float | None
    run_dir: str | None
    error: str | None


NOT_RUN = Ending("not run", None, None, None, None, None)


def run_sweep(command: Command, words: Words, *, trains: bool) -> tuple[int, dict[str, Any]]:
    """Run all jobs, one after the other; return the exit code and the result of the sweep.

    `trains`: the jobs leave run folders, which get numbers in a folder of the sweep, with its table
    beside them, unless the user has named others.
    """
    jobs = compose_jobs(command, words)
    for _, config in jobs:
        check_files(config)
    job_words, folder = [overrides for overrides, _ in jobs], None
    if trains:
        job_words, folder = _own_folders(jobs)
    chosen = _chosen([overrides for overrides, _ in jobs])
    literals = [f"{key}={value}" for key, value in words.literals.items()]
    job_words = [[*overrides, *literals] for overrides in job_words]
    endings = [NOT_RUN] * len(jobs)
    for number, job in enumerate(job_words):
        told = " ".join(word.lstrip("+") for word in job)
        print(f"job {number + 1} of {len(jobs)}: {told}", file=sys.stderr)
        endings[number] = _run_job(job)
        if folder is not None:
            write_text(folder / TABLE, _as_csv(chosen, endings))
        if endings[number].status == "stopped":
            break
    print(_as_text(chosen, endings), file=sys.stderr)
    result = {
        "sweep_dir": None if folder is None else str(folder),
        "jobs": len(jobs),
        "failed": sum(ending.status == "failed" for ending in endings),
        "best": _best(command, job_words, endings),
    }
    return _exit_code(endings), result


def _exit_code(endings: Sequence[Ending]) -> int:
    """That of the signal that stopped the sweep, else of the first job that failed, else 0."""
    for ending in endings:
        if ending.status == "stopped":
            return ending.code or 0
    for ending in endings:
        if ending.status == "failed":
            return ending.code if ending.code in (1, 2) else 1
    return 0


def tell_sweep(answer: Mapping[str, Any]) -> None:
    """Leave the result of this job, or its error, where the sweep that started it will look."""
    path = os.environ.get(ANSWER_FILE)
    if path is not None:
        write_json(Path(path), answer)


def _own_folders(
    jobs: Sequence[tuple[list[str], Any]],
) -> tuple[list[list[str]], Path | None]:
    """Give every job its run folder, outputs/sweeps/SWEEP/NUMBER unless the user chose them."""
    if any(_key(word) == "run.dir" for word in jobs[0][0]):
        folders = [config.run.dir for _, config in jobs]
        if len(set(folders)) < len(folders):
            raise UserError(f"run.dir={folders[0]}: the jobs of a sweep need different folders")
        return [overrides for overrides, _ in jobs], None
    sweep = Path("outputs", "sweeps", run_id())
    return [
        [*overrides, f"run.dir={sweep / str(number)}"] for number, (overrides, _) in enumerate(jobs)
    ], sweep


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _chosen(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """For each job the values of the keys in which the jobs differ."""
    values = [{_key(word): word.partition("=")[2] for word in job} for job in jobs]
    differing = [key for key in values[0] if len({job[key] for job in values}) > 1]
    return [{key: job[key] for key in differing} for job in values]


def _run_job(words: Sequence[str]) -> Ending:
    """Run one job like a command of its own; a signal to the sweep is handed on to the job."""
    received: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        job.send_signal(number)

    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        # a process group of its own: a Ctrl-C would reach the job twice, and a second one kills
        job = subprocess.Popen(
            [sys.executable, sys.argv[0], *words],
            process_group=0,
            env=os.environ | {ANSWER_FILE: str(answer)},
        )
        handed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        before = {number: signal.signal(number, hand_on) for number in handed_on}
        try:
            code = job.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        told = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
    return _ending(code, told, bool(received))


def _ending(code: int, told: Mapping[str, Any], signalled: bool) -> Ending:
    """`code` as `Popen` gives it: -n for a job that signal n has ended before it could answer."""
    stopped = signalled or told.get("status") == "stopped"
    error = told.get("error")
    if stopped or code < 0:
        error = signal.Signals(abs(code) % 128).name if code else None
    elif code and error is None:
        error = f"exit code {code}"
    scored = told.get("valid", told)
    return Ending(
        status="finished" if code == 0 else "stopped" if stopped else "failed",
        code=128 - code if code < 0 else code,
        perplexity=scored.get("mean", {}).get("perplexity"),
        seconds=told.get("seconds"),
        run_dir=told.get("run_dir"),
        error=error,
    )


def _best(
    command: Command, job_words: Sequence[Sequence[str]], endings: Sequence[Ending]
) -> dict[str, Any] | None:
    """The job of the lowest perplexity, with its words ready to be pasted."""
    scored = [
        (ending.perplexity, number)
        for number, ending in enumerate(endings)
        if ending.perplexity is not None and math.isfinite(ending.perplexity)
    ]
    if not scored:
        return None
    perplexity, best = min(scored)
    words = [word.lstrip("+") for word in job_words[best] if _key(word) != "run.dir"]
    line = shlex.join([f"xlm-{command.name}", *words])
    print(f"best: {line}", file=sys.stderr)
    run_dir = endings[best].run_dir
    return {"job": best, "perplexity": perplexity, "run_dir": run_dir, "command": line}


def _rows(
    chosen: Sequence[Mapping[str, str]], endings: Sequence[Ending]
) -> list[dict[str, int | float | str | None]]:
    return [
        {
            "job": number,
            **choice,
            "status": ending.status,
            "perplexity": ending.perplexity,
            "seconds": ending.seconds,
            "run_dir": ending.run_dir,
            "exit_code": ending.code,
            "error": ending.error,
        }
        for number, (choice, ending) in enumerate(zip(chosen, endings, strict=True))
    ]


def _as_csv(chosen: Sequence[Mapping[str, str]], endings: Sequence[Ending]) -> str:
    rows = _rows(chosen, endings)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_text(chosen: Sequence[Mapping[str, str]], endings: Sequence[Ending]) -> str:
    """A line for each job, in columns."""
    lines = [["job", *chosen[0], "perplexity", "status"]]
    for number, (choice, ending) in enumerate(zip(chosen, endings, strict=True)):
        perplexity = "" if ending.perplexity is None else f"{ending.perplexity:.3f}"
        why = "" if ending.error is None else f": {ending.error}"
        lines.append([str(number), *choice.values(), perplexity, ending.status + why])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
