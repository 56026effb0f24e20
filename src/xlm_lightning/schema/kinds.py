"""Kinds of values that several commands share: their types and ranges."""

from __future__ import annotations

import math
from typing import Annotated, Any

from xlm_lightning.legality import (
    AtLeast,
    AtMost,
    Below,
    NotEmpty,
    OneOf,
    Verbatim,
)

Positive = Annotated[int, AtLeast(1)]
Count = Annotated[int, AtLeast(0)]
Fraction = Annotated[float, AtLeast(0), Below(1)]
Accelerator = Annotated[str, OneOf("auto", "cpu", "gpu")]
PRECISIONS = {  # as the user may write it -> Lightning's name; `auto` is decided on the machine
    "auto": "auto",
    "16": "16-mixed",
    "16-mixed": "16-mixed",
    "16-true": "16-true",
    "bf16": "bf16-mixed",
    "bf16-mixed": "bf16-mixed",
    "bf16-true": "bf16-true",
    "32": "32-true",
    "32-true": "32-true",
    "64": "64-true",
    "64-true": "64-true",
}
Precision = Annotated[str, OneOf(*PRECISIONS)]
Seed = Annotated[int, AtLeast(0), AtMost(2**32 - 1)]
PathName = Annotated[str, NotEmpty(), Verbatim()]
Conflict = tuple[str, str]  # key=value, what is wrong with it


def weight_curve(text: str) -> list[tuple[int, float]]:
    """Points (step, weight) of `0.5`, or of `0:1,100000:0.1`, the original's notation.

    Straight lines in between, level after. Raises `ValueError` for anything else.
    """
    if ":" not in text:
        return [(0, _weight(text))]
    pairs = [point.split(":") for point in text.split(",")]
    curve = [(int(step), _weight(weight)) for step, weight in pairs]
    steps = [step for step, _ in curve]
    if steps[0] != 0 or steps != sorted(set(steps)):
        raise ValueError("steps must begin at 0 and rise")
    return curve


def _weight(text: str) -> float:
    weight = float(text)
    if weight < 0 or not math.isfinite(weight):
        raise ValueError("a weight must be finite and at least 0")
    return weight


class WeightCurve:
    """What `weight_curve` reads."""

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        try:
            weight_curve(value)
        except ValueError:
            return "must be a weight, such as 1, or weights from step 0 on, such as 0:1,100000:0.1"
        return ""


Weight = Annotated[str, WeightCurve(), Verbatim()]
