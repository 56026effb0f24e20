"""All combinations of the values given, in order."""

from __future__ import annotations

from collections.abc import Sequence

from xlm_lightning.sweep.answers import Ending
from xlm_lightning.sweep.jobs import Job


class Grid:
    """The jobs of a sweep that are known before it starts."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        """`jobs`: those that are still to be run."""
        self.total = len(jobs)
        self._left = list(jobs)

    def next(self) -> Job | None:
        """Return the job to start now, None after the last one."""
        return self._left.pop(0) if self._left else None

    def ended(self, job: Job, ending: Ending) -> None:
        """Nothing is learned from it."""

    def is_hopeless(self, job: Job) -> bool:
        """No job is ended early."""
        return False
