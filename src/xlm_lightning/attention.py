"""Attention: torch's fused kernel, or strips of queries on a CPU.

On a CPU torch's fused kernel has no dropout and falls back to whole (time, time) matrices. The
strips here compute only the lower triangle of a causal model and draw their dropout from bytes
(`dropout.py`): the same function, compared with the fused call in the tests and timed in
`bench/train_step.py`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlm_lightning.dropout import (
    DropoutMethod,
    byte_threshold,
    keep_mask,
    random_bytes,
)

AttentionMethod = Literal["auto", "sdpa", "strips"]
STRIP_LENGTH = 64  # queries per strip: 5/8 of the (time, time) square is computed at 256 tokens


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    causal: bool,
    real: Tensor | None = None,
    dropout: float,
    method: AttentionMethod,
    dropout_method: DropoutMethod,
) -> Tensor:
    """Attend from each position to itself and those before it (`causal`), or to all.

    All tensors are (batch, heads, time, head_dim); unless `causal`, keys and values may be of
    another time than queries. `real`, if given, is bool (batch, 1, 1, time of the keys), False
    where a key is padding. `dropout` is the probability on the attention weights (0 outside
    training). `auto` takes the strips where they pay on a CPU: with dropout, and in bf16, where
    forward and backward take a third to a half of the fused kernel's time (measured at 128 and 256
    tokens; without dropout in fp32 the fused kernel is 1.1 times faster).
    """
    pays = queries.device.type == "cpu" and (dropout > 0 or queries.dtype == torch.bfloat16)
    if method == "strips" or (method == "auto" and pays and dropout_method != "torch"):
        in_strips: Any = _StripAttention.apply  # torch leaves it untyped
        context: Tensor = in_strips(queries, keys, values, real, causal, dropout)
        return context
    return F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=real, dropout_p=dropout, is_causal=causal
    )


class Attention(nn.Module):
    """What self-attention and attention to a source have in common, but for their weights."""

    def __init__(
        self, heads: int, dropout: float, method: AttentionMethod, dropout_method: DropoutMethod
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.method: AttentionMethod = method
        self.dropout_method: DropoutMethod = dropout_method

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool, real: Tensor | None
    ) -> Tensor:
        """See the function of this name; dropout in training only."""
        return attend(
            queries,
            keys,
            values,
            causal=causal,
            real=real,
            dropout=self.dropout if self.training else 0.0,
            method=self.method,
            dropout_method=self.dropout_method,
        )


def real_keys(lengths: Tensor, time: int) -> Tensor:
    """Bool (batch, 1, 1, time), False behind the first `lengths` (batch,) keys of each row."""
    return (torch.arange(time, device=lengths.device) < lengths[:, None])[:, None, None]


class _StripAttention(torch.autograd.Function):
    """Strips of queries against all keys, or those up to the strip's end; softmax sums in fp32."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        real: Tensor | None,
        causal: bool,
        dropout: float,
    ) -> Tensor:
        batch, heads, time, head_dim = queries.shape
        flat = [x.reshape(batch * heads, -1, head_dim) for x in (queries, keys, values)]
        q, k, v = flat[0] * head_dim**-0.5, flat[1], flat[2]
        ctx.causal = causal
        ctx.threshold = byte_threshold(dropout)
        ctx.keep_scale = 256 / (256 - ctx.threshold)
        output = torch.empty_like(q)
        saved: list[Tensor] = []
        for start in range(0, time, STRIP_LENGTH):
            end = min(start + STRIP_LENGTH, time)
            seen = end if causal else k.shape[1]
            scores = torch.bmm(q[:, start:end], k[:, :seen].transpose(1, 2))  # (rows, strip, seen)
            if causal:
                scores[:, :, start:].add_(_future(end - start, scores))
            if real is not None:
                by_row = scores.view(batch, heads, end - start, seen)
                by_row.masked_fill_(~real[..., :seen], -torch.inf)
            weights = torch.softmax(scores, dim=-1)
            noise = random_bytes(weights.shape, weights.device) if ctx.threshold else weights
            dropped = (
                keep_mask(noise, ctx.threshold, weights.dtype).mul_(weights)
                if ctx.threshold
                else weights
            )
            torch.bmm(dropped, v[:, :seen], out=output[:, start:end])
            saved += [weights, noise]
        ctx.save_for_backward(q, k, v, *saved)
        return output.mul_(ctx.keep_scale).view(batch, heads, time, head_dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q, k, v, *saved = ctx.saved_tensors
        shape = gradient.shape
        time, head_dim = shape[2], shape[3]
        grad_output = gradient.reshape(q.shape) * ctx.keep_scale
        grad_q = torch.empty_like(q)
        grad_k, grad_v = torch.zeros_like(k), torch.zeros_like(v)
        for index, start in enumerate(range(0, time, STRIP_LENGTH)):
            end = min(start + STRIP_LENGTH, time)
            seen = end if ctx.causal else k.shape[1]
            weights, noise = saved[2 * index], saved[2 * index + 1]
            strip = grad_output[:, start:end]
            grad_weights = torch.bmm(strip, v[:, :seen].transpose(1, 2))
            dropped = weights
            if ctx.threshold:
                keep = keep_mask(noise, ctx.threshold, weights.dtype)
                grad_weights.mul_(keep)
                dropped = keep.mul_(weights)
            grad_v[:, :seen].baddbmm_(dropped.transpose(1, 2), strip)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            torch.bmm(grad_scores, k[:, :seen], out=grad_q[:, start:end])
            grad_k[:, :seen].baddbmm_(grad_scores.transpose(1, 2), q[:, start:end])
        grad_q.mul_(head_dim**-0.5)
        of_keys = (*shape[:2], -1, head_dim)
        return grad_q.view(shape), grad_k.view(of_keys), grad_v.view(of_keys), None, None, None


def _future(length: int, like: Tensor) -> Tensor:
    """(length, length) of zeros with -inf above the diagonal: the keys that come after a query."""
    return torch.full((length, length), -torch.inf, dtype=like.dtype, device=like.device).triu_(1)
