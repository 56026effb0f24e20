"""What a run tells a dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning.loggers.logger import Logger

from xlm_lightning.recall import flat
from xlm_lightning.task import LOGGED


class Sample(NamedTuple):
    """Text that the model has written, or filled in, at a validation."""

    title: str  # its language, and what was found of a masked text
    text: str


class Dashboard(Logger):
    """A logger that also takes text, and the figures of a run's end. Rank 0 alone writes."""

    def open(self) -> None:
        """Begin before the first step, so that what is missing is told then. Rank 0 only."""

    def log_samples(self, samples: Sequence[Sample], step: int) -> None:
        """Show text of the model's own, on rank 0."""
        raise NotImplementedError

    def close(self, summary: Mapping[str, Any]) -> None:
        """Show `final_figures` of the summary, which a stopped run does not have, and end.

        Called once, on rank 0.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration is shown from the start."""


def final_figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return what the end has scored, all of each split with the best weights:
    `final/valid/de/perplexity` and so on."""
    told = {split: summary[split] for split in ("valid", "test") if split in summary}
    names = ((f"final.{name}".split("."), value) for name, value in flat(told))
    return {"/".join(parts): value for parts, value in names if parts[-1] in LOGGED}


def run_name(folder: Path) -> str:
    """`experiment-run id`, or in a sweep `its name-number of the job`: the jobs are 0, 1, ..."""
    return f"{folder.absolute().parent.name}-{folder.name}"
