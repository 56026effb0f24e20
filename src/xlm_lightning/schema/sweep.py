"""What `-m` may be told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from xlm_lightning.legality import Above, AtLeast, OneOf
from xlm_lightning.schema.kinds import Conflict, Positive, Seed


@dataclass
class Sweep:
    """Which jobs there are, and how many run at a time."""

    method: Annotated[str, OneOf("grid", "optuna")]
    name: str | None  # of the folder in outputs/sweeps; None: date and time
    n_jobs: Annotated[int | None, AtLeast(1)]  # at a time; None: one here, all of a grid on SLURM
    parameters: dict[str, Any]  # key -> its values, as typed after -m
    trials: Positive  # optuna: of the whole study
    startup_trials: Positive  # optuna: random ones, before which nothing is pruned
    prune: bool  # optuna: end a trial that is worse than the median of the others
    seed: Seed  # optuna: of the proposals


@dataclass
class Slurm:
    """The SLURM job of each job of a sweep, in the words of submitit."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    nodes: Positive
    tasks_per_node: Positive  # processes, one for each device
    gpus_per_node: Annotated[int | None, AtLeast(1)]
    cpus_per_task: Annotated[int | None, AtLeast(1)]
    mem_gb: Annotated[float | None, Above(0)]  # of a node
    timeout_min: Positive  # minutes
    signal_delay_s: Positive  # seconds before the timeout at which a job saves and queues again
    setup: list[str]  # shell commands before the job
    additional_parameters: dict[str, Any]  # any other option of sbatch


@dataclass
class SweepPlan:
    """conf/sweep.yaml, and the file of conf/hydra/launcher that was chosen."""

    sweep: Sweep
    launcher: Slurm | None  # None: processes of this machine

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        name = self.sweep.name
        if name is not None and not re.fullmatch(r"[\w-][\w.-]*", name):
            yield f"sweep.name={name}", "must be letters, digits, '-', '_' or '.': a folder's name"
