"""Keys and values that a model has made, of its own positions and of a source, and attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class LayerCache:
    """Keys and values of the positions seen so far, in a buffer of the final length."""

    buffer: Tensor  # (keys and values, batch, heads, max_time, head_dim)
    mask: Tensor | None = None  # (batch, 1, 1, max_time), added to scores: -inf hides a key
    length: int = 0
    source: SourceCache | None = None  # of a decoder that reads one

    def attend(self, qkv: Tensor) -> Tensor:
        """Store the newest keys and values, and attend from their positions to all so far.

        `qkv` (queries, keys and values, batch, heads, new_time, head_dim); returns (batch, heads,
        new_time, head_dim). Evaluation only: no dropout.
        """
        start, end = self.length, self.length + qkv.shape[3]
        self.buffer[:, :, :, start:end] = qkv[1:]
        self.length = end
        keys, values = self.buffer[:, :, :, :end].unbind(0)
        if start == 0 and self.mask is None:
            return F.scaled_dot_product_attention(qkv[0], keys, values, is_causal=True)
        mask = self._mask(qkv[0], start, end)
        return F.scaled_dot_product_attention(qkv[0], keys, values, attn_mask=mask)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (int64) in this order; one may come several times."""
        old = self.buffer
        self.buffer = old.new_empty(old.shape[0], len(rows), *old.shape[2:])
        used = old[:, :, :, : self.length]
        self.buffer[:, :, :, : self.length] = used.index_select(1, rows)
        if self.mask is not None:
            self.mask = self.mask[rows]
        if self.source is not None:
            self.source.select(rows)

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


@dataclass
class SourceCache:
    """Keys and values of the sources, made once; the rows that read one source stand together."""

    keys_values: Tensor  # (keys and values, sources, heads, source_time, head_dim)
    real: Tensor  # bool (sources, 1, 1, source_time), False where a key is padding
    width: int = 1  # rows that read each source

    def attend(self, queries: Tensor) -> Tensor:
        """Attend from `queries` (rows, heads, new_time, head_dim) to all of their source."""
        rows, heads, new, head_dim = queries.shape
        keys, values = self.keys_values.unbind(0)
        if self.width > 1:  # the beams of a search ask its source together
            queries = queries.view(rows // self.width, self.width, heads, new, head_dim)
            queries = queries.transpose(1, 2).reshape(-1, heads, self.width * new, head_dim)
        context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=self.real)
        if self.width > 1:
            context = context.view(-1, heads, self.width, new, head_dim).transpose(1, 2)
        return context.reshape(rows, heads, new, head_dim)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows; a source is copied only where others are gone.

        `ValueError` where sources would have different numbers of rows.
        """
        sources, widths = torch.unique_consecutive(rows // self.width, return_counts=True)
        self.width = len(rows) // len(sources)
        if not bool((widths == self.width).all()):
            raise ValueError("every source needs as many rows as the others")
        if len(sources) < self.keys_values.shape[1]:
            self.keys_values, self.real = self.keys_values[:, sources], self.real[sources]


def padding_mask(padding: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """(batch, 1, 1, length): -inf at the first `padding` (batch,) places of each row, 0 behind."""
    hidden = torch.arange(length, device=padding.device) < padding[:, None]
    mask = torch.zeros(hidden.shape, dtype=dtype, device=padding.device)
    return mask.masked_fill_(hidden, -torch.inf)[:, None, None]
