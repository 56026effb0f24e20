"""A CPU's fast paths against torch's own: attention in strips, dropout from bytes, the loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from xlm_lightning.attention import attend
from xlm_lightning.cross_entropy import IGNORED, _aligned, linear_cross_entropy
from xlm_lightning.dropout import byte_threshold, dropout, random_bytes


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("time", [1, 63, 64, 65, 200])
def test_strips_equal_the_fused_attention(time: int, causal: bool) -> None:
    torch.manual_seed(time)
    inputs = [torch.randn(2, 3, time, 16, requires_grad=True) for _ in range(3)]
    outputs, gradients = [], []
    for method in ("strips", "sdpa"):
        output = attend(*inputs, causal=causal, dropout=0.0, method=method, dropout_method="auto")
        gradients.append(torch.autograd.grad((output**3).sum(), inputs))
        outputs.append(output)
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_strips_equal_the_fused_attention_where_keys_are_padding() -> None:
    torch.manual_seed(0)
    time = 130
    inputs = [torch.randn(3, 2, time, 16, requires_grad=True) for _ in range(3)]
    real = (torch.arange(time) < torch.tensor([[time], [7], [65]]))[:, None, None]
    how = {"causal": False, "real": real, "dropout": 0.0, "dropout_method": "auto"}
    outputs = [attend(*inputs, method=method, **how) for method in ("strips", "sdpa")]
    gradients = [torch.autograd.grad((output**3).sum(), inputs) for output in outputs]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for of_padding in gradients[0][1:]:  # keys and values
        assert not of_padding[1, :, 7:].any()


@pytest.mark.parametrize(("queries", "keys"), [(1, 9), (70, 9), (9, 130), (130, 70)])
def test_strips_equal_the_fused_attention_to_another_text(queries: int, keys: int) -> None:
    torch.manual_seed(0)
    times = (queries, keys, keys)
    inputs = [torch.randn(2, 3, time, 16, requires_grad=True) for time in times]
    real = (torch.arange(keys) < torch.tensor([[keys], [7]]))[:, None, None]
    how = {"causal": False, "real": real, "dropout": 0.0, "dropout_method": "auto"}
    outputs = [attend(*inputs, method=method, **how) for method in ("strips", "sdpa")]
    gradients = [torch.autograd.grad((output**3).sum(), inputs) for output in outputs]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_strips_with_dropout_are_the_gradient_of_what_they_compute(causal: bool) -> None:
    inputs = [torch.randn(1, 2, 70, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def in_strips(*tensors: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return attend(*tensors, causal=causal, dropout=0.3, method="strips", dropout_method="auto")

    assert torch.autograd.gradcheck(in_strips, inputs, fast_mode=True)


def test_attention_dropout_is_unbiased() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 65, 8) for _ in range(3))
    how = {"causal": True, "dropout_method": "auto"}
    exact = attend(q, k, v, dropout=0.0, method="sdpa", **how)
    noisy = [attend(q, k, v, dropout=0.2, method="strips", **how) for _ in range(800)]
    standard_error = torch.stack(noisy).std(0) / math.sqrt(len(noisy))
    deviation = (torch.stack(noisy).mean(0) - exact) / standard_error
    assert not torch.equal(noisy[0], noisy[1])
    assert deviation.abs().max() < 5.5  # of 1,040 values; 5.5 sigma is one in 25,000 runs


def test_random_bytes_are_uniform() -> None:
    torch.manual_seed(0)
    counts = torch.bincount(random_bytes(torch.Size([256 * 4096]), torch.device("cpu")).long())
    assert len(counts) == 256
    chi_square = float(((counts - 4096) ** 2 / 4096).sum())
    assert chi_square < 350  # 255 degrees of freedom: mean 255, deviation 23
    every_eighth = random_bytes(torch.Size([8 * 65536]), torch.device("cpu"))[7::8]
    assert int(every_eighth.max()) > 250  # the sign bit of an int64 is random as well


@pytest.mark.parametrize("method", ["torch", "byte_mask"])
def test_dropout_rate_scale_and_gradient(method: str) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 997, requires_grad=True)
    y = dropout(x, 0.1, training=True, method=method)
    share = byte_threshold(0.1) / 256 if method == "byte_mask" else 0.1
    assert abs(float((y == 0).float().mean()) - share) < 0.002
    assert abs(float(y.detach().mean()) - 1) < 0.003
    y.sum().backward()
    assert torch.equal(x.grad, y)  # the gradient passes the same mask
    assert dropout(x, 0.1, training=False, method=method) is x
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.1, training=True, method=method), y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_place_cross_entropy_equals_torch(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(700, 24, dtype=dtype)
    weight, bias = torch.randn(1111, 24, dtype=dtype), torch.randn(1111, dtype=dtype)
    targets = torch.randint(0, 1111, (700,))
    targets[::7] = IGNORED
    leaves = [t.requires_grad_() for t in (hidden, weight, bias)]
    ours = linear_cross_entropy(*leaves, targets)
    grads = torch.autograd.grad(ours * 0.5, leaves)
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    exact = F.cross_entropy(F.linear(*doubles), targets, ignore_index=IGNORED)
    exact_grads = torch.autograd.grad(exact * 0.5, doubles)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert abs(float(((ours - exact) / exact).detach())) < tolerance / 10
    for ours_grad, exact_grad in zip(grads, exact_grads, strict=True):
        error = (ours_grad.double() - exact_grad).norm() / exact_grad.norm()
        assert error < tolerance


def test_loss_without_any_target_is_zero() -> None:
    hidden = torch.randn(4, 8, requires_grad=True)
    loss = linear_cross_entropy(
        hidden, torch.randn(20, 8), torch.randn(20), torch.full((4,), IGNORED)
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(hidden.grad.abs().sum()) == 0


def test_words_that_nothing_predicts_change_nothing() -> None:
    """Those that make the words of a GPU a multiple of 8."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(13, 4, requires_grad=True)
    bias, targets = torch.randn(13, requires_grad=True), torch.randint(13, (5,))
    results = []
    for more in (_aligned(weight, bias), (weight, bias)):
        loss = F.cross_entropy(F.linear(hidden, *more), targets)
        results.append([loss, *torch.autograd.grad(loss, (hidden, weight, bias))])
    assert len(_aligned(weight, bias)[1]) == 16
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference)
