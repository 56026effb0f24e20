"""The original's Adam and the learning-rate curves, as plain functions of the update number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from torch.nn import Parameter

OptimizerName = Literal["adam", "adamw"]
ScheduleName = Literal["constant", "inverse_sqrt", "cosine", "linear"]

INVERSE_SQRT_START = 1e-7  # the original's rate of the first warm-up update


class XLMAdam(torch.optim.AdamW):
    """Adam as in the original: decoupled decay, and eps added *outside* the bias correction.

    p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps). torch adds its eps to the corrected
    root sqrt(v / (1 - b2^t)), so the same update is torch's with eps / sqrt(1 - b2^t): the fused
    kernel serves both.
    """

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        base = [group["eps"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                updates = self._updates_done(group) + 1
                group["eps"] = group["eps"] / math.sqrt(1 - group["betas"][1] ** updates)
            super().step()
        finally:
            for group, eps in zip(self.param_groups, base, strict=True):
                group["eps"] = eps
        return loss

    def _updates_done(self, group: dict[str, Any]) -> int:
        state = self.state.get(group["params"][0])
        return int(state["step"]) if state else 0


def build_optimizer(
    parameters: Iterable[Parameter],
    *,
    name: OptimizerName,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """`adam`: the original's; `adamw`: torch's. Both decay decoupled, in one fused pass."""
    cls = XLMAdam if name == "adam" else torch.optim.AdamW
    return cls(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


def learning_rate(
    update: int,
    *,
    name: ScheduleName,
    lr: float,
    warmup_steps: int,
    min_lr: float,
    total_steps: int,
) -> float:
    """The rate of update number `update` (0 is the first).

    `inverse_sqrt` is the original's curve exactly: linear from 1e-7, then lr * sqrt(warmup / k).
    The others rise linearly to `lr`, then stay (`constant`) or fall to `min_lr` at `total_steps`.
    """
    if name == "inverse_sqrt":
        if update < warmup_steps:
            return INVERSE_SQRT_START + update * (lr - INVERSE_SQRT_START) / warmup_steps
        return lr * math.sqrt(max(warmup_steps, 1) / max(update, 1))
    if update < warmup_steps:
        return lr * (update + 1) / (warmup_steps + 1)
    if name == "constant":
        return lr
    done = min(1.0, (update - warmup_steps) / max(1, total_steps - warmup_steps))
    remaining = (1 + math.cos(math.pi * done)) / 2 if name == "cosine" else 1 - done
    return min_lr + (lr - min_lr) * remaining
