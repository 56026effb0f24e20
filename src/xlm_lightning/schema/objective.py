"""What a model is trained for: the `objective` keys of `xlm-train`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from xlm_lightning.legality import Above, AtLeast, AtMost, Below, Verbatim
from xlm_lightning.schema.kinds import Conflict, Count


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

    reads_numbers = True  # so that a number in its place is no mistake, see `legality.check`

    def __str__(self) -> str:
        return "a weight, such as 1, or weights from step 0 on, such as 0:1,100000:0.1"

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        try:
            weight_curve(value)
        except ValueError:
            return f"must be {self}"
        return ""


TRANSLATION = ("ae", "bt", "mt")  # objectives of a translator
OBJECTIVES = ("clm", "mlm", "tlm", *TRANSLATION)
Weight = Annotated[str, WeightCurve(), Verbatim()]


@dataclass
class Masking:
    """What mlm and tlm hide from the model and ask for."""

    share: Annotated[float, Above(0), Below(1)]  # of all tokens
    masked: Annotated[float, AtLeast(0), AtMost(1)]  # of these, seen as the mask
    random: Annotated[float, AtLeast(0), AtMost(1)]  # seen as any token; the rest as they are
    frequency_alpha: Annotated[float, AtLeast(0)]  # 0: all tokens alike; else p ~ count^-alpha


@dataclass
class Noise:
    """What ae does to a sentence before the model is asked to restore it."""

    shuffle: Annotated[float, AtLeast(0)]  # sorted by place + U(0, shuffle); 0: order is kept
    drop: Annotated[float, AtLeast(0), Below(1)]  # of the tokens, left out
    blank: Annotated[float, AtLeast(0), Below(1)]  # of those that are left, seen as the mask


@dataclass
class Objective:
    """What is predicted: weights of the losses of the objectives, which take turns step by step."""

    clm: Weight  # every token from those before it
    mlm: Weight  # hidden tokens from those on both sides
    tlm: Weight  # hidden tokens of a sentence and its translation, from both
    ae: Weight  # a sentence from itself with noise
    bt: Weight  # a sentence from the model's own translation of it
    mt: Weight  # a sentence from its translation
    context_size: Count  # clm: so many predictions at a block's beginning are not scored
    masking: Masking
    noise: Noise

    def conflicts(self, stream_length: int, max_steps: int) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        if self.context_size > stream_length - 2:
            yield (
                f"objective.context_size={self.context_size}",
                f"leaves nothing to score of data.stream_length={stream_length}",
            )
        if self.masking.masked + self.masking.random > 1:
            yield (
                f"objective.masking.random={self.masking.random}",
                f"makes more than 1 with objective.masking.masked={self.masking.masked}",
            )
        if (idle := self._idle_step(max_steps)) is not None:
            words = ", ".join(f"{name}={text}" for name, text in self._written().items())
            yield (
                f"objective.{words}",
                f"at step {idle} all weights are 0; give one of them a weight",
            )

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Objective -> its weights over the steps, for those that ever have one."""
        curves = {name: weight_curve(text) for name, text in self._written().items()}
        return {name: curve for name, curve in curves.items() if any(w for _, w in curve)}

    def _written(self) -> dict[str, str]:
        """Objective -> its weight as it was given, in the order in which they take turns."""
        return {name: getattr(self, name) for name in OBJECTIVES}

    def _idle_step(self, max_steps: int) -> int | None:
        """The first step without an objective; between two points a sum of lines above 0 is so."""
        curves = self.curves().values()
        points = {0} | {step for curve in curves for step, _ in curve} | {max_steps - 1}
        for step in sorted(points):
            if step < max_steps and not any(_at(curve, step) for curve in curves):
                return step
        return None


def _at(curve: list[tuple[int, float]], step: int) -> float:
    """The weight at `step`."""
    for (start, before), (end, after) in pairwise(curve):
        if start <= step < end:
            return before + (after - before) * (step - start) / (end - start)
    return curve[-1][1]
