"""Keys and values that a model in decoding reads again at each step, and attention to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class SourceCache:
    """Keys and values of the sources, each read by as many rows, which stand side by side."""

    keys_values: Tensor  # (keys and values, sources, heads, source_time, head_dim)
    mask: Tensor  # (sources, 1, 1, source_time), added to scores: -inf hides a key

    def attend(self, queries: Tensor) -> Tensor:
        """Attend from (rows, heads, new_time, head_dim), and return the same shape.

        The rows of one source are taken as queries of one row: nothing of it is copied for them.
        """
        _, heads, new, head_dim = queries.shape
        sources = self.keys_values.shape[1]
        together = queries.view(sources, -1, heads, new, head_dim).transpose(1, 2)
        keys, values = self.keys_values.unbind(0)
        context = F.scaled_dot_product_attention(
            together.flatten(2, 3), keys, values, attn_mask=self.mask
        )
        return context.view(together.shape).transpose(1, 2).flatten(0, 1)

    def select(self, sources: Tensor) -> None:
        """Go on with these sources (int64) in this order; one may come several times."""
        self.keys_values = self.keys_values.index_select(1, sources)
        self.mask = self.mask[sources]


@dataclass
class LayerCache:
    """Keys and values of the positions seen so far, in a buffer of the final length."""

    max_length: int  # positions
    mask: Tensor | None = None  # (batch, 1, 1, max_length), added to scores: -inf hides a key
    length: int = 0
    buffer: Tensor | None = None  # (keys and values, batch, max_length, heads, head_dim)
    source: SourceCache | None = None  # of a layer that reads a source, once it has

    def attend(self, qkv: Tensor) -> Tensor:
        """Store the newest keys and values, and attend from their positions to all so far.

        `qkv` (queries, keys and values, batch, heads, new_time, head_dim); returns (batch, heads,
        new_time, head_dim). Evaluation only: no dropout.
        """
        start, end = self.length, self.length + qkv.shape[3]
        if self.buffer is None:  # under autocast what is stored has another dtype than the weights
            _, batch, heads, _, head_dim = qkv.shape
            self.buffer = qkv.new_empty(2, batch, self.max_length, heads, head_dim)
        self.buffer[:, :, start:end] = qkv[1:].transpose(2, 3)
        self.length = end
        keys, values = self.buffer[:, :, :end].transpose(2, 3).unbind(0)
        if start == 0 and self.mask is None:
            return F.scaled_dot_product_attention(qkv[0], keys, values, is_causal=True)
        mask = self._mask(qkv[0], start, end)
        return F.scaled_dot_product_attention(qkv[0], keys, values, attn_mask=mask)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (int64) in this order; one may come several times.

        The source stays as it is: what its rows are is for who knows which rows belong together.
        """
        old = self.buffer
        assert old is not None, "nothing was read yet"
        self.buffer = old.new_empty(2, len(rows), *old.shape[2:])
        used = old[:, :, : self.length]
        torch.index_select(used, 1, rows, out=self.buffer[:, :, : self.length])
        if self.mask is not None:
            self.mask = self.mask[rows]

    def _mask(self, queries: Tensor, start: int, end: int) -> Tensor | None:
        """What is added to the scores (..., new_time, end); None where every key is seen.

        A padded position sees itself all the same: of a row of -inf some kernels make NaN, which
        would spread through its value, whatever its weight.
        """
        mask = None if self.mask is None else self.mask[..., :end]
        new = end - start
        if new == 1:
            return mask
        future = torch.full((new, end), -torch.inf, dtype=queries.dtype, device=queries.device)
        future.triu_(start + 1)
        if mask is None:
            return future
        itself = torch.eye(new, dtype=torch.bool, device=queries.device)
        return (mask + future).masked_fill(F.pad(itself, (start, 0)), 0)


def padding_mask(padding: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """(batch, 1, 1, length): -inf at the first `padding` (batch,) places of each row, 0 behind."""
    hidden = torch.arange(length, device=padding.device) < padding[:, None]
    mask = torch.zeros(hidden.shape, dtype=dtype, device=padding.device)
    return mask.masked_fill_(hidden, -torch.inf)[:, None, None]
