"""A layer of the transformer: attention and feed-forward, each in a post-norm residual.

A layer of a decoder attends to a source in between, as in the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from xlm_lightning.attention import AttentionMethod, attend
from xlm_lightning.cache import LayerCache, SourceCache
from xlm_lightning.compilation import compiled
from xlm_lightning.dropout import DropoutMethod, dropout

Activation = Literal["gelu", "relu"]

NORM_EPS = 1e-12  # torch's default 1e-5 would move log-probabilities by 1e-4


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float,
        method: AttentionMethod,
        dropout_method: DropoutMethod,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.method: AttentionMethod = method
        self.dropout_method: DropoutMethod = dropout_method
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        hidden: Tensor,
        causal: bool,
        real: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        batch, time, dim = hidden.shape
        qkv = self.qkv(hidden).view(batch, time, 3, self.heads, dim // self.heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, batch, heads, time, head_dim)
        if cache is None:
            context = attend(
                *qkv.unbind(0),
                causal=causal,
                real=real,
                dropout=self.dropout if self.training else 0.0,
                method=self.method,
                dropout_method=self.dropout_method,
            )
        else:
            context = cache.attend(qkv)
        output: Tensor = self.out(context.transpose(1, 2).reshape(batch, time, dim))
        return output


@dataclass(frozen=True)
class Source:
    """What an encoder has made of the sentences that a decoder reads."""

    hidden: Tensor  # (batch, source_time, dim)
    real: Tensor  # bool (batch, 1, 1, source_time), False where there is padding


class SourceAttention(nn.Module):
    """Multi-head attention of a decoder to its source."""

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float,
        method: AttentionMethod,
        dropout_method: DropoutMethod,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.method: AttentionMethod = method
        self.dropout_method: DropoutMethod = dropout_method
        self.query = nn.Linear(dim, dim)
        self.keys_values = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, hidden: Tensor, source: Source, cache: LayerCache | None = None) -> Tensor:
        batch, time, dim = hidden.shape
        queries = self.query(hidden).view(batch, time, self.heads, -1).transpose(1, 2)
        if cache is None:
            context = attend(
                queries,
                *self.project(source).unbind(0),
                causal=False,
                real=source.real,
                dropout=self.dropout if self.training else 0.0,
                method=self.method,
                dropout_method=self.dropout_method,
            )
        else:
            if cache.source is None:
                cache.source = SourceCache(self.project(source), source.real)
            context = cache.source.attend(queries)
        output: Tensor = self.out(context.transpose(1, 2).reshape(batch, time, dim))
        return output

    def project(self, source: Source) -> Tensor:
        """Keys and values, (2, batch, heads, source_time, head_dim)."""
        batch, time, _ = source.hidden.shape
        projected: Tensor = self.keys_values(source.hidden).view(batch, time, 2, self.heads, -1)
        return projected.permute(2, 0, 3, 1, 4)


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised after (post-norm)."""

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        attention: AttentionMethod,
        dropout_method: DropoutMethod,
        activation: Activation,
        compile_on_gpu: bool,
        reads_source: bool = False,
    ) -> None:
        super().__init__()
        self.compile_on_gpu = compile_on_gpu
        self.dropout = dropout
        self.dropout_method: DropoutMethod = dropout_method
        self.activate = F.gelu if activation == "gelu" else F.relu  # gelu: the exact erf form
        self.attention = SelfAttention(dim, heads, attention_dropout, attention, dropout_method)
        self.attention_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        if reads_source:
            self.source_attention = SourceAttention(
                dim, heads, attention_dropout, attention, dropout_method
            )
            self.source_attention_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.expand = nn.Linear(dim, 4 * dim)
        self.contract = nn.Linear(4 * dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(
        self,
        hidden: Tensor,
        causal: bool,
        real: Tensor | None = None,
        cache: LayerCache | None = None,
        source: Source | None = None,
    ) -> Tensor:
        plain = real is None and source is None
        if self.compile_on_gpu and self.training and hidden.is_cuda and plain:
            trained: Tensor = compiled(Layer.compute)(self, hidden, causal)
            return trained
        return self.compute(hidden, causal, real, cache, source)

    def compute(
        self,
        hidden: Tensor,
        causal: bool,
        real: Tensor | None = None,
        cache: LayerCache | None = None,
        source: Source | None = None,
    ) -> Tensor:
        attended = self.attention(hidden, causal, real, cache)
        hidden = self.attention_norm(hidden + self._drop(attended))
        if source is not None:
            attended = self.source_attention(hidden, source, cache)
            hidden = self.source_attention_norm(hidden + self._drop(attended))
        expanded = self.activate(self.expand(hidden))
        normed: Tensor = self.feed_forward_norm(hidden + self._drop(self.contract(expanded)))
        return normed

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, training=self.training, method=self.dropout_method)
