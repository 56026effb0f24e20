"""What a suite finds: rows with their 95 % intervals, for the report and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm_lightning.streaming.philox import BOOTSTRAP, uniforms

Z = 1.959964  # of a 95 % interval
RESAMPLES = 2000
TRAINED, RANDOM = "trained", "random weights"  # series: the model, and its control


@dataclass(frozen=True)
class Row:
    """One figure; `x` is its place where the measurement has an axis, such as the layer."""

    series: str
    group: str
    x: int | None
    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Measurement:
    """Rows that belong into one plot, and what a reader must know of them."""

    name: str
    title: str
    method: str
    metric: str
    unit: str
    chance: float | None  # what guessing reaches
    rows: list[Row]
    x_name: str | None = None


@dataclass
class Findings:
    """What a suite has measured, and what it could not or does not show."""

    tests: list[Measurement] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """`x_name` is left out of tests without an axis."""
        tests = [asdict(test) for test in self.tests]
        for test in tests:
            if test["x_name"] is None:
                del test["x_name"]
        return {"tests": tests, "limits": self.limits}


def share(
    series: str,
    group: str,
    hits: int,
    count: int,
    x: int | None = None,
    independent: int | None = None,
) -> Row:
    """Row of a share, with Wilson's interval: right also near 0 and 1, and for small counts.

    `independent`: how many of the items are, where that is not all of them.
    """
    value, n = hits / count, independent or count
    centre = value + Z**2 / (2 * n)
    half = Z * math.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    low, high = ((centre + sign * half) / (1 + Z**2 / n) for sign in (-1, 1))
    return Row(series, group, x, value, max(low, 0.0), min(high, 1.0), count)


def mean(series: str, group: str, values: NDArray[np.float64], seed: int) -> Row:
    """Row of a mean, with the percentile interval of a bootstrap over `values` (n,)."""
    low, high = interval(resampled_means(values, seed))
    return Row(series, group, None, float(values.mean()), low, high, len(values))


def resampled_means(values: NDArray[np.float64], seed: int, stream: int = 0) -> NDArray[np.float64]:
    """(RESAMPLES,) means of as many values each, drawn with replacement in the `stream`."""
    draws = uniforms((RESAMPLES, len(values)), seed, BOOTSTRAP, stream)
    means: NDArray[np.float64] = values[(draws * len(values)).astype(np.int64)].mean(axis=1)
    return means


def interval(means: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of resampled figures."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def table(findings: Findings) -> Iterator[str]:
    """Lines for a person."""
    for test in findings.tests:
        chance = "" if test.chance is None else f"; chance {test.chance:.3f}"
        yield f"\n{test.title} ({test.metric}{chance})"
        groups, series = (
            max(len(getattr(row, column)) for row in test.rows) for column in ("group", "series")
        )
        named = f"  {'':{groups}}  {'':{series}} {test.x_name or '':>5}"
        yield f"{named} {'value':>8}  {'95 % interval':>18} {'of':>5}"
        for row in test.rows:
            x = "" if row.x is None else str(row.x)
            named = f"  {row.group:{groups}}  {row.series:{series}} {x:>5}"
            yield f"{named} {row.value:8.3f}  {row.low:8.3f} ..{row.high:7.3f} {row.count:5}"
    for limit in findings.limits:
        yield f"\n* {limit}"
