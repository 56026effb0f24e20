"""The folder of a sweep: outputs/sweeps/NAME, with a run folder for each job in it."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlm_lightning.atomic import write_json
from xlm_lightning.errors import UserError

SWEEPS = Path("outputs", "sweeps")
TABLE = "sweep.csv"
_JOBS = "sweep.json"
_PATIENCE_SECONDS = 120.0  # for the jobs of a killed sweep to save and end


class SweepFolder:
    """Names of the files of a sweep; held by one sweep at a time, and as long as jobs of it run."""

    def __init__(self, name: str) -> None:
        """Nothing is made before `take`."""
        self.path = SWEEPS / name
        self.lock = -1

    @property
    def table(self) -> Path:
        return self.path / TABLE

    @property
    def study(self) -> Path:
        return self.path / "study.db"

    @property
    def slurm(self) -> Path:
        return self.path / "slurm"

    def run(self, number: int) -> Path:
        """Run folder of a job."""
        return self.path / str(number)

    def answer(self, number: int) -> Path:
        """File of what a job tells."""
        return self.path / "answers" / f"{number}.json"

    def log(self, number: int) -> Path:
        """File of a job's standard error, where several jobs run at a time."""
        return self.path / f"{number}.log"

    def take(self, what: Mapping[str, Any]) -> None:
        """Make or open the folder for a sweep that tries `what`.

        Waits for jobs that a killed sweep has left. Raises `UserError` beside a sweep that is
        alive, and where the folder holds another sweep.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        self._wait_for_lock()
        path = self.path / _JOBS
        if not path.is_file():
            write_json(path, what)
            return
        before = json.loads(path.read_text("utf-8"))
        for key, value in what.items():
            if before[key] != value:
                raise UserError(
                    f"{self.path} holds a sweep with {key} {_told(before[key])}, not "
                    f"{_told(value)}; repeat its words to go on, or choose another sweep.name"
                )

    def _wait_for_lock(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        told = False
        while not self._locked():
            owner = os.pread(self.lock, 20, 0).decode()
            if time.monotonic() > deadline or (owner and _is_alive(int(owner))):
                raise UserError(
                    f"{self.path}: this sweep is being run (process {owner}); "
                    "wait for it, or choose another sweep.name"
                )
            if not told:
                print(f"{self.path}: waiting for jobs of before to end", file=sys.stderr)
                told = True
            time.sleep(0.2)
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, str(os.getpid()).encode(), 0)

    def _locked(self) -> bool:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def sweep_of(run_dir: Path) -> str | None:
    """Return the name of the sweep whose job left, or will leave, this run folder."""
    sweep = run_dir.absolute().parent
    return sweep.name if (sweep / _JOBS).is_file() else None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
