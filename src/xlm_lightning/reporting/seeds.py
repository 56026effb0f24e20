"""Runs that differ in their seed: what else must be alike, and how sure their mean is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from xlm_lightning.reporting.record import RunRecord

# Student's t of a 95 % interval of the mean, by the number of values less one
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.96


def rest(run: RunRecord, *choices: str) -> frozenset[tuple[str, str]]:
    """What runs must have alike, beside their seed and the `choices` that are compared."""
    own = ("run.", "resume", "seed", "logger.", *choices)
    return frozenset((k, str(v)) for k, v in run.flat_config.items() if not k.startswith(own))


def interval(values: Sequence[float], *, at_least: float) -> dict[str, float]:
    """95 % of the mean; the value itself where there is one only."""
    mean, freedom = statistics.fmean(values), len(values) - 1
    if freedom == 0:
        return {"low": mean, "high": mean}
    t = _T[freedom - 1] if freedom <= len(_T) else _NORMAL
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return {"low": max(mean - half, at_least), "high": mean + half}
