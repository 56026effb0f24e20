"""Which objective an optimizer step is for: those with a weight take turns, as in the original.

Every micro-batch of a step, on every rank, is for the same objective. An objective counts its own
slots, so that it goes through all of its text whatever others do in between. All of it is a pure
function of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

CLM, MLM, TLM = "clm", "mlm", "tlm"
AE, BT, MT = "ae", "bt", "mt"
TRANSLATION = (AE, BT, MT)
Curve = Sequence[tuple[int, float]]  # (step, weight), straight lines in between, level after
_CHUNK = 16384  # steps decided together


class Turns:
    """Objectives and their weights, step by step."""

    def __init__(self, curves: Mapping[str, Curve], slots_per_step: int) -> None:
        """Take the weight curve of each objective; at every step one of them must be above 0."""
        self.curves = {name: list(curve) for name, curve in curves.items()}
        self._slots_per_step = slots_per_step
        self._chosen = np.empty(0, np.int8)  # (steps known,) place in `curves`
        self._earlier = np.empty(0, np.int64)  # (steps known,) steps before it for the same one
        self._counts = np.zeros(len(curves), np.int64)  # of all steps known

    @property
    def objectives(self) -> list[str]:
        """All names, in the order in which they take turns."""
        return list(self.curves)

    def of_slot(self, number: int) -> tuple[str, int]:
        """The objective of slot `number`, and how many slots were for it before."""
        step, micro_batch = divmod(number, self._slots_per_step)
        while step >= len(self._chosen):
            self._decide_more()
        objective = self.objectives[int(self._chosen[step])]
        return objective, int(self._earlier[step]) * self._slots_per_step + micro_batch

    def weight(self, objective: str, number: int) -> float:
        """What the loss of slot `number` is multiplied by."""
        steps, weights = zip(*self.curves[objective], strict=True)
        return float(np.interp(number // self._slots_per_step, steps, weights))

    def _decide_more(self) -> None:
        start = len(self._chosen)
        steps = np.arange(start, start + _CHUNK)
        active = np.stack([_above_zero(curve, steps) for curve in self.curves.values()])
        # Of the n objectives that are active at step s it is the turn of number s mod n.
        number = np.cumsum(active, axis=0) - 1
        chosen = np.argmax(active & (number == steps % active.sum(axis=0)), axis=0)
        earlier = np.empty(len(steps), np.int64)
        for index in range(len(self.curves)):
            here = np.flatnonzero(chosen == index)
            earlier[here] = self._counts[index] + np.arange(len(here))
            self._counts[index] += len(here)
        self._chosen = np.concatenate([self._chosen, chosen.astype(np.int8)])
        self._earlier = np.concatenate([self._earlier, earlier])


def _above_zero(curve: Curve, steps: NDArray[np.int64]) -> NDArray[np.bool_]:
    places, weights = zip(*curve, strict=True)
    above: NDArray[np.bool_] = np.interp(steps, places, weights) > 0
    return above
