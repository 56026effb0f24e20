"""The figure that decides which weights are best, when a run stops, and which run is best."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Monitor(NamedTuple):
    """A figure of a validation, and whether the least or the most of it is best."""

    name: str  # in callbacks, metrics.csv and dashboards
    mode: Literal["min", "max"]

    @property
    def figure(self) -> str:
        """Its name in a summary."""
        return self.name.rpartition("/")[2]


# As in the original: the mean over languages, or over the directions of translation.
PERPLEXITY = Monitor("valid/mean/perplexity", "min")
BLEU = Monitor("valid/mean/bleu", "max")
