"""A job of a sweep, and its process on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from xlm_lightning.sweep.answers import ANSWER_FILE, SWEEP_PID, Ending, ending_of, read_answer

_OTHERS_PROCESSES = (  # what torchrun, srun and Lightning say to the processes that they start
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PL_GLOBAL_SEED",
    "XLM_RUN_ID",
)


@dataclass(frozen=True)
class Job:
    """One command line of a sweep."""

    number: int
    choice: Mapping[str, str]  # values of the keys in which the jobs differ
    words: list[str]
    command: str  # the same for a single run, ready to be pasted
    folder: Path | None  # of its run, where the sweep has chosen it
    complaint: str | None = None  # why it cannot be run

    @property
    def told(self) -> str:
        """What sets it apart, or all of its words."""
        if self.choice:
            return " ".join(f"{key}={value}" for key, value in self.choice.items())
        return " ".join(self.words)


class Running(Protocol):
    """A job that has been started."""

    job: Job

    def poll(self) -> Ending | None:
        """Return what came of it, None while it runs."""

    def send(self, number: int) -> None:
        """Hand on a signal."""


@dataclass(frozen=True)
class Place:
    """What a job leaves to the sweep, and its share of the machine."""

    answer: Path
    log: Path | None  # of standard error; None: that of the sweep
    number: int  # among the jobs that run at the same time
    of: int


class LocalJob:
    """A process of this machine, which ends when the sweep does."""

    def __init__(self, job: Job, place: Place, lock: int | None) -> None:
        """`lock`: a file descriptor to be held as long as the process lives."""
        self.job = job
        self._answer = place.answer
        self._answer.unlink(missing_ok=True)
        self._signalled = False
        self._log: IO[bytes] | None = None if place.log is None else place.log.open("ab")
        # a process group of its own: a Ctrl-C would reach the job twice, and a second one kills
        self._process = subprocess.Popen(
            [sys.executable, sys.argv[0], *job.words],
            process_group=0,
            stderr=self._log,
            pass_fds=() if lock is None else (lock,),
            env=_environment() | _share(place) | {ANSWER_FILE: str(place.answer)},
        )

    def poll(self) -> Ending | None:
        """See `Running`."""
        code = self._process.poll()
        if code is None:
            return None
        if self._log is not None:
            self._log.close()
        return ending_of(code, read_answer(self._answer), signalled=self._signalled)

    def send(self, number: int) -> None:
        """See `Running`."""
        self._signalled = True
        self._process.send_signal(number)


def _environment() -> dict[str, str]:
    """The user's own, with nothing of the processes that another program may have started."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _OTHERS_PROCESSES and not name.startswith(("SLURM_", "TORCHELASTIC_"))
    }
    return kept | {SWEEP_PID: str(os.getpid())}


def _share(place: Place) -> dict[str, str]:
    """Cores, and the GPUs of CUDA_VISIBLE_DEVICES, for each of the jobs that run at a time."""
    if place.of == 1:
        return {}
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = max(1, cores // place.of)
    shares = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    each = len(gpus) // place.of
    if each:
        own = gpus[place.number * each : (place.number + 1) * each]
        shares["CUDA_VISIBLE_DEVICES"] = ",".join(own)
    return shares
