"""Next-token loss over the whole vocabulary; on a CPU its gradient is made in place of the logits.

The logits are the largest tensor of a step (4,096 tokens x 64,699 words = 265 M numbers). The CPU
path turns them into their own gradient strip by strip, while a strip is in the cache: one buffer in
the compute dtype instead of three, with the loss itself summed in fp32. Elsewhere it is torch's own
linear and cross-entropy.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # a target that is not scored
ALIGNED = 8  # words: rows of 16 bytes in half precision, which a GPU's fast kernels ask for
STRIP_BYTES = 1 << 22  # one strip of logits in fp32: within the last-level cache


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean of -ln p(target) in nats over the scored targets, a scalar in fp32.

    `hidden` (tokens, dim), `weight` (vocabulary, dim), `bias` (vocabulary,), `targets` (tokens,)
    int64 with `IGNORED` where nothing is scored.
    """
    if hidden.is_cuda:
        weight, bias = _aligned(weight, bias)
    logits = F.linear(hidden, weight, bias)
    in_place = logits.device.type == "cpu" and logits.dtype in (torch.float32, torch.bfloat16)
    if in_place and logits.requires_grad:
        apply: Any = _InPlaceCrossEntropy.apply  # torch leaves it untyped
        loss: Tensor = apply(logits, targets)
        return loss
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORED)


def _aligned(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Words that nothing predicts, until their number is a multiple of `ALIGNED`.

    With 64,699 words the three matrix products of the loss took 28 of the 53 ms of a step on an
    H100; with 64,704 they take 7.
    """
    missing = -len(bias) % ALIGNED
    if missing == 0:
        return weight, bias
    return F.pad(weight, (0, 0, 0, missing)), F.pad(bias, (0, missing), value=-torch.inf)


class _InPlaceCrossEntropy(torch.autograd.Function):
    """Overwrites its logits with d loss / d logits; safe, since a linear layer keeps no output.

    fp16 stays with torch's function: probabilities divided by the token count underflow there.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        grad_logits = logits.detach()  # the same memory
        scored = targets != IGNORED
        count = max(int(scored.sum()), 1)
        total = torch.zeros((), dtype=torch.float64)
        rows_per_strip = max(1, STRIP_BYTES // (4 * logits.shape[1]))
        for start in range(0, len(targets), rows_per_strip):
            rows = slice(start, start + rows_per_strip)
            strip = grad_logits[rows].float()  # in fp32 the logits themselves
            columns = targets[rows].clamp(min=0)[:, None]
            keep = scored[rows, None].float()
            target_logits, largest = strip.gather(1, columns), strip.amax(1, keepdim=True)
            torch.softmax(strip, dim=1, out=strip)
            # the largest probability is exp(largest - log_sum), and never underflows
            log_sum = largest - strip.amax(1, keepdim=True).log()
            total += ((log_sum - target_logits) * keep).sum(dtype=torch.float64)
            strip.scatter_add_(1, columns, torch.full_like(log_sum, -1.0)).mul_(keep / count)
            if logits.dtype != torch.float32:
                grad_logits[rows] = strip
        ctx.save_for_backward(grad_logits)
        return (total / count).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grad_logits,) = ctx.saved_tensors
        factor = gradient.item()
        return (grad_logits if factor == 1.0 else grad_logits * factor), None
