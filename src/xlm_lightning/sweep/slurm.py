"""A job of a sweep as a job of SLURM, handed in through submitit.

Its tasks run the same command as a local job does; what it tells comes back through files of the
sweep's folder, so that no accounting is needed to see its end. Queueing again before the time limit
is the training's own business (`docs/parallel.md`), not submitit's: the step must end first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import submitit

from xlm_lightning.atomic import write_text
from xlm_lightning.errors import UserError
from xlm_lightning.schema import Slurm
from xlm_lightning.sweep.answers import ANSWER_FILE, Ending, ending_of, read_answer
from xlm_lightning.sweep.jobs import Job

_LOOK_SECONDS = 20.0  # between two questions to the scheduler about a job
_UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED")


class SlurmJob:
    """A job in the queue or on its nodes; it outlives the sweep, which finds it again."""

    def __init__(self, job: Job, answer: Path, folder: Path, launcher: Slurm) -> None:
        """Hand in `job`, or go on with the one that a sweep of before has handed in.

        `folder` is for submitit's files: script, pickled command, output of each task.
        """
        self.job = job
        self._answer = answer.absolute()
        self._code = self._answer.with_suffix(".code")
        self._id_file = self._answer.with_suffix(".slurm")
        self._signalled = False
        self._looked = time.monotonic()
        known = self._id_file.read_text("utf-8") if self._id_file.is_file() else None
        if known is not None and not self._code.is_file() and _state(known) in _UNFINISHED:
            self._id = known
            return
        self._answer.unlink(missing_ok=True)
        self._code.unlink(missing_ok=True)
        self._id = _submit(job, self._answer, self._code, folder, launcher)
        write_text(self._id_file, self._id)

    def poll(self) -> Ending | None:
        """See `Running`; the scheduler is asked only from time to time."""
        if self._code.is_file():
            return self._ending(int(self._code.read_text("utf-8")))
        if not self._signalled and time.monotonic() - self._looked < _LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        if _state(self._id) in _UNFINISHED:
            return None
        if self._code.is_file():  # written in the meantime
            return self._ending(int(self._code.read_text("utf-8")))
        if self._signalled:
            return self._ending(-signal.SIGTERM)
        error = f"SLURM job {self._id} has gone without an answer"
        return Ending(status="failed", exit_code=1, error=error)

    def send(self, number: int) -> None:
        """Whatever the signal: a job in the queue is cancelled, a running one stops and saves."""
        self._signalled = True
        running = _state(self._id) == "RUNNING"
        subprocess.run(["scancel", *(["--signal=TERM"] if running else []), self._id], check=False)

    def _ending(self, code: int) -> Ending:
        return ending_of(code, read_answer(self._answer), signalled=self._signalled)


def _submit(job: Job, answer: Path, code: Path, folder: Path, launcher: Slurm) -> str:
    parameters = {
        "name": f"xlm-sweep-{job.number}",
        "nodes": launcher.nodes,
        "tasks_per_node": launcher.tasks_per_node,
        "gpus_per_node": launcher.gpus_per_node,
        "cpus_per_task": launcher.cpus_per_task,
        "mem_gb": launcher.mem_gb,
        "timeout_min": launcher.timeout_min,
        "slurm_partition": launcher.partition,
        "slurm_account": launcher.account,
        "slurm_qos": launcher.qos,
        "slurm_constraint": launcher.constraint,
        "slurm_setup": launcher.setup or None,
        "slurm_additional_parameters": {
            "signal": f"USR1@{launcher.signal_delay_s}",
            **launcher.additional_parameters,
        },
    }
    words = [sys.executable, str(Path(sys.argv[0]).absolute()), *job.words]
    try:
        executor = submitit.AutoExecutor(folder=folder / "%j", cluster="slurm")
        executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
        return str(executor.submit(run_task, words, str(answer), str(code)).job_id)
    except (
        RuntimeError,
        subprocess.CalledProcessError,
        submitit.core.utils.FailedJobError,
    ) as error:
        raise UserError(f"hydra/launcher=slurm: {str(error).strip().splitlines()[-1]}") from error


def run_task(words: Sequence[str], answer: str, code_file: str) -> int:
    """Run on a node, once for each task: the command, and its exit code for the sweep."""
    # Ignored here and, until it has a handler of its own, in the command.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    first = os.environ.get("SLURM_PROCID", "0") == "0"
    code = subprocess.call(words, env=os.environ | {ANSWER_FILE: answer})
    if code == 128 + signal.SIGUSR1:
        # The training has had its job queued again, which ends this process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(600)
    if first:
        write_text(Path(code_file), str(code))
    return code


def _state(job_id: str) -> str:
    """What the scheduler says of a job; nothing of one that ended some time ago."""
    told = subprocess.run(
        ["squeue", "--noheader", "--format=%T", f"--jobs={job_id}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()
