"""The original's Adam and schedules against plain references written from their formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from xlm_lightning.optim import build_optimizer, learning_rate


def reference_step(p, m, v, gradient, t, lr, betas, eps, weight_decay):
    """One update of spec'd Adam: eps outside the bias correction, decoupled decay."""
    p = p - weight_decay * lr * p
    m = betas[0] * m + (1 - betas[0]) * gradient
    v = betas[1] * v + (1 - betas[1]) * gradient**2
    scale = math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
    return p - lr * scale * m / (v.sqrt() + eps), m, v


@pytest.mark.parametrize("eps", [1e-8, 1e-2])  # 1e-2 tells the two places of eps apart
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_equals_the_original_step_by_step(eps: float, weight_decay: float) -> None:
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(50, dtype=torch.float64))
    optimizer = build_optimizer(
        [parameter], name="adam", lr=0.0, betas=(0.9, 0.98), eps=eps, weight_decay=weight_decay
    )
    p = parameter.detach().clone()
    m = v = torch.zeros_like(p)
    for t in range(1, 41):
        lr = learning_rate(
            t - 1, name="inverse_sqrt", lr=1e-2, warmup_steps=10, min_lr=0.0, total_steps=40
        )
        optimizer.param_groups[0]["lr"] = lr
        parameter.grad = torch.randn(50, dtype=torch.float64)
        p, m, v = reference_step(p, m, v, parameter.grad, t, lr, (0.9, 0.98), eps, weight_decay)
        optimizer.step()
        assert (parameter.detach() - p).abs().max() < 1e-12
    assert optimizer.param_groups[0]["eps"] == eps  # what a checkpoint keeps


def test_adam_continues_from_its_state() -> None:
    def run(steps: int, restart_after: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.zeros(5))
        options = {"name": "adam", "lr": 0.1, "betas": (0.9, 0.99), "eps": 0.1, "weight_decay": 0.0}
        optimizer = build_optimizer([parameter], **options)
        for step in range(steps):
            if step == restart_after:
                state = optimizer.state_dict()
                optimizer = build_optimizer([parameter], **options)
                optimizer.load_state_dict(state)
            parameter.grad = torch.sin(torch.arange(5) + step * 1.0)
            optimizer.step()
        return parameter.detach()

    assert torch.equal(run(7, None), run(7, 3))


def rates(name: str, warmup_steps: int = 4, min_lr: float = 0.0) -> list[float]:
    return [
        learning_rate(
            step, name=name, lr=1.0, warmup_steps=warmup_steps, min_lr=min_lr, total_steps=20
        )
        for step in range(21)
    ]


def test_inverse_sqrt_is_the_original_curve() -> None:
    curve = rates("inverse_sqrt")
    assert curve[0] == 1e-7
    assert curve[2] == pytest.approx(1e-7 + 2 * (1 - 1e-7) / 4)
    assert curve[4] == 1.0
    assert curve[16] == pytest.approx(math.sqrt(4 / 16))


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
def test_the_others_rise_linearly_and_end_where_they_should(name: str) -> None:
    curve = rates(name, min_lr=0.1)
    assert curve[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert max(curve) == curve[4] == 1.0
    assert curve[20] == pytest.approx(1.0 if name == "constant" else 0.1)
    assert all(later <= earlier for earlier, later in pairwise(curve[4:]))
    assert rates(name, warmup_steps=0)[0] == 1.0
