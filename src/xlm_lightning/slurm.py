"""A run as a job of SLURM: what srun has started, and how the job is put back into the queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from xlm_lightning.errors import UserError

JOB = "SLURM_JOB_ID"
STEP = "SLURM_STEP_ID"  # only processes that srun has started have one
REQUEUE_SIGNAL = signal.SIGUSR1  # as in `#SBATCH --signal=SIGUSR1@90`
_SHELLS = ("bash", "interactive")  # names of jobs in which somebody types


def run_name() -> str | None:
    """Return the job's id, in all processes of a run the same and after a requeue as well.

    In a shell one run follows another: the step's number is added; None where there is no step.
    """
    variables = os.environ
    job, step = variables.get(JOB), variables.get(STEP)
    if variables.get("SLURM_JOB_NAME") not in _SHELLS:
        return job
    alone = variables.get("SLURM_STEP_NUM_TASKS", "1") == "1"  # such as `srun --pty bash` itself
    return None if alone else f"{job}.{step}"


def step_size() -> tuple[int, int]:
    """Return the processes that srun has started on each node, and the nodes.

    Raises `UserError` where nodes have different numbers.
    """
    per_node = os.environ["SLURM_STEP_TASKS_PER_NODE"]  # such as 4, 4(x2), or 4(x2),3
    if "," in per_node:
        raise UserError(
            f"srun has started {per_node} processes on its nodes: all need the same number; "
            "say --ntasks-per-node=N instead of --ntasks"
        )
    return int(per_node.partition("(")[0]), int(os.environ["SLURM_STEP_NUM_NODES"])


def require_srun() -> None:
    """Refuse to train in the shell of a batch job that has several tasks: it would wait for ever.

    In the shell of salloc somebody tries things out; there Lightning starts the processes.
    """
    variables = os.environ
    tasks = max(int(variables.get(name, "1")) for name in ("SLURM_NTASKS", "SLURM_NNODES"))
    if tasks > 1 and variables.get("SLURM_JOB_NAME") not in _SHELLS:
        raise UserError(
            f"this job of SLURM has {tasks} tasks, of which none has been started: write "
            "'srun xlm-train' instead of 'xlm-train', or ask sbatch for one node and one task"
        )


def requeued_after(number: int) -> bool:
    """Put this job back into the queue if it was stopped by the signal that asks for it.

    False where it was another signal, this is no job of SLURM's, or SLURM refuses, which is told.
    """
    variables = os.environ
    if number != REQUEUE_SIGNAL or JOB not in variables:
        return False
    job = variables[JOB]
    if "SLURM_ARRAY_JOB_ID" in variables:
        # the last task of an array has the array's own id, which means all of its tasks
        job = f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"
    # SLURM ends the job's processes at once, and this one has its result to print
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        signal.signal(signal.SIGTERM, before)
        reason = getattr(error, "stderr", None) or error
        print(f"scontrol requeue {job} failed: {str(reason).strip()}", file=sys.stderr)
        return False
    print(f"job {job} is requeued and goes on from its checkpoint", file=sys.stderr, flush=True)
    return True
