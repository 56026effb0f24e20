"""What a decoder reads beside its own text: the hidden states of a sentence; attention to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xlm_lightning.attention import Attention, AttentionMethod
from xlm_lightning.cache import LayerCache, SourceCache
from xlm_lightning.dropout import DropoutMethod


@dataclass(frozen=True)
class Source:
    """The hidden states of a batch of sentences, padded behind."""

    hidden: Tensor  # (batch, source_time, dim)
    real: Tensor  # bool (batch, 1, 1, source_time), False where a key is padding


class SourceAttention(Attention):
    """Multi-head attention to a source; one fused projection for its keys and values."""

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float,
        method: AttentionMethod,
        dropout_method: DropoutMethod,
    ) -> None:
        super().__init__(heads, dropout, method, dropout_method)
        self.query = nn.Linear(dim, dim)
        self.keys_values = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, hidden: Tensor, source: Source | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """(batch, time, dim) of `hidden` (batch, time, dim).

        A cache is told the source with the first tokens, and keeps its keys and values.
        """
        queries = self.query(hidden).unflatten(2, (self.heads, -1)).transpose(1, 2)
        if cache is not None:
            if cache.source is None:
                cache.source = self._keep(source)
            context = cache.source.attend(queries)
        else:
            assert source is not None, "this model reads a source"
            context = self.attend(queries, *self._project(source), causal=False, real=source.real)
        output: Tensor = self.out(context.transpose(1, 2).flatten(2))
        return output

    def _project(self, source: Source) -> Tensor:
        """(keys and values, batch, heads, source_time, head_dim)."""
        projected: Tensor = self.keys_values(source.hidden).unflatten(2, (2, self.heads, -1))
        return projected.permute(2, 0, 3, 1, 4)

    def _keep(self, source: Source | None) -> SourceCache:
        assert source is not None, "a cache is told the source with the first tokens"
        projected = self._project(source).contiguous()  # read at each step
        mask = torch.zeros_like(source.real, dtype=projected.dtype)
        return SourceCache(projected, mask.masked_fill_(~source.real, -torch.inf))
