"""The loop of a sweep: start jobs as places become free, watch them, write down how they end."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from xlm_lightning.errors import UserError
from xlm_lightning.launch import launched
from xlm_lightning.overrides import Command
from xlm_lightning.schema import SweepPlan
from xlm_lightning.slurm import requeued_after
from xlm_lightning.sweep.answers import Ending
from xlm_lightning.sweep.folder import SweepFolder
from xlm_lightning.sweep.jobs import Job, LocalJob, Place, Running
from xlm_lightning.sweep.planning import plan_sweep
from xlm_lightning.sweep.table import Table

_POLL_SECONDS = 0.1
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Jobs(Protocol):
    """Which job comes next: a `Grid` or a `Study`."""

    total: int

    def next(self) -> Job | None:
        """Return the job to start now, None after the last one."""

    def ended(self, job: Job, ending: Ending) -> None:
        """Learn what came of a job."""

    def is_hopeless(self, job: Job) -> bool:
        """Whether a running job is not worth its time."""


Start = Callable[[Job, int], Running]  # a job, and the number of its place among those at a time


def run_sweep(
    command: Command, arguments: Sequence[str], *, trains: bool
) -> tuple[int, dict[str, Any]]:
    """Run all jobs of the command line; return the exit code and the result of the sweep.

    `trains`: the jobs leave run folders, which get numbers in a folder of the sweep, with its table
    beside them, unless the user has named others.
    """
    started = launched()
    if started is not None and started.devices * started.num_nodes > 1:
        raise UserError(f"-m starts the processes of its jobs; run it without {started.program}")
    plan, jobs, table, folder = plan_sweep(command, arguments, trains=trains)
    with tempfile.TemporaryDirectory() as scratch:
        n_jobs = _jobs_at_a_time(plan, jobs.total)
        _run_all(jobs, table, n_jobs, _starter(plan, folder, Path(scratch), n_jobs))
    print(table.as_text(), file=sys.stderr)
    if folder is not None:
        from xlm_lightning.report import leave_report

        leave_report(folder.path)
    code = table.exit_code()
    if folder is not None and code >= 128:
        name = [] if plan.sweep.name else [f"sweep.name={folder.path.name}"]
        line = shlex.join([f"xlm-{command.name}", *arguments, *name])
        print(f"to go on: {line}", file=sys.stderr)
    best = table.best()
    if best is not None:
        print(f"best: {best['command']}", file=sys.stderr)
    requeued_after(code - 128)  # a sweep inside a job of SLURM: its id names the folder again
    return code, {
        "sweep_dir": None if folder is None else str(folder.path),
        "jobs": len(table),
        "failed": table.count("failed"),
        "pruned": table.count("pruned"),
        "best": best,
    }


def _jobs_at_a_time(plan: SweepPlan, total: int) -> int:
    if plan.sweep.n_jobs is not None:
        return plan.sweep.n_jobs
    return 1 if plan.launcher is None or plan.sweep.method == "optuna" else total


def _starter(plan: SweepPlan, folder: SweepFolder | None, scratch: Path, n_jobs: int) -> Start:
    def start(job: Job, place: int) -> Running:
        if folder is None:
            answer, log = scratch / f"{job.number}.json", None
        else:
            answer = folder.answer(job.number)
            log = folder.log(job.number) if n_jobs > 1 else None
        if plan.launcher is None or folder is None:
            lock = None if folder is None else folder.lock
            return LocalJob(job, Place(answer, log, place, n_jobs), lock)
        from xlm_lightning.sweep.slurm import SlurmJob

        return SlurmJob(job, answer, folder.slurm, plan.launcher)

    return start


def _run_all(jobs: Jobs, table: Table, n_jobs: int, start: Start) -> None:
    """Keep `n_jobs` jobs running until there are no more, or a signal stops all."""
    running: dict[int, Running] = {}  # by place
    pruned: set[int] = set()  # numbers of jobs
    with _handed_on(running) as received:
        while True:
            for place in sorted(set(range(n_jobs)) - running.keys()):
                job = None if received else _next_runnable(jobs, table)
                if job is not None:
                    print(f"job {job.number}, of {jobs.total}: {job.told}", file=sys.stderr)
                    running[place] = start(job, place)
            if not running:
                return
            time.sleep(_POLL_SECONDS)
            for place, one in list(running.items()):
                ending = one.poll()
                if ending is not None:
                    del running[place]
                    if one.job.number in pruned and ending.status == "stopped":
                        ending = replace(ending, status="pruned", error=None)
                    _end(jobs, table, one.job, ending)
                elif one.job.number not in pruned and jobs.is_hopeless(one.job):
                    pruned.add(one.job.number)
                    one.send(signal.SIGTERM)


def _next_runnable(jobs: Jobs, table: Table) -> Job | None:
    """A proposal that contradicts itself fails without a process."""
    while (job := jobs.next()) is not None and job.complaint is not None:
        _end(jobs, table, job, Ending(status="failed", exit_code=2, error=job.complaint))
    return job


def _end(jobs: Jobs, table: Table, job: Job, ending: Ending) -> None:
    table.record(job, ending)
    jobs.ended(job, ending)
    told = f", {ending.figure}" if ending.figure else ""
    why = "" if ending.error is None else f": {ending.error}"
    print(f"job {job.number}: {ending.status}{told}{why}", file=sys.stderr)


@contextmanager
def _handed_on(running: dict[int, Running]) -> Iterator[list[int]]:
    """Signals to the sweep go to its running jobs, and no further ones are started."""
    received: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for one in list(running.values()):
            one.send(number)

    before = {number: signal.signal(number, hand_on) for number in _HANDED_ON}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
