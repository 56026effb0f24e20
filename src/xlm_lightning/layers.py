"""A layer of the transformer: attention, of a decoder also to its source, and feed-forward, each in
a post-norm residual."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from xlm_lightning.attention import Attention, AttentionMethod
from xlm_lightning.cache import LayerCache
from xlm_lightning.compilation import compiled
from xlm_lightning.dropout import DropoutMethod, dropout
from xlm_lightning.source import Source, SourceAttention

Activation = Literal["gelu", "relu"]

NORM_EPS = 1e-12  # torch's default 1e-5 would move log-probabilities by 1e-4


class SelfAttention(Attention):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float,
        method: AttentionMethod,
        dropout_method: DropoutMethod,
    ) -> None:
        super().__init__(heads, dropout, method, dropout_method)
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
            context = self.attend(*qkv.unbind(0), causal=causal, real=real)
        else:
            context = cache.attend(qkv)
        output: Tensor = self.out(context.transpose(1, 2).reshape(batch, time, dim))
        return output


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised after (post-norm).

    `reads_source`: between them attention to a source, as in the original's decoder, which without
    a source is a language model.
    """

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
        self.source_attention: SourceAttention | None = None
        if reads_source:
            self.source_attention = SourceAttention(
                dim, heads, attention_dropout, attention, dropout_method
            )
            self.source_norm = nn.LayerNorm(dim, eps=NORM_EPS)
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
        compiles = self.compile_on_gpu and self.training and hidden.is_cuda
        if compiles and real is None and source is None:
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
        told = source is not None or (cache is not None and cache.source is not None)
        if self.source_attention is not None and told:
            read = self.source_attention(hidden, source, cache)
            hidden = self.source_norm(hidden + self._drop(read))
        expanded = self.activate(self.expand(hidden))
        normed: Tensor = self.feed_forward_norm(hidden + self._drop(self.contract(expanded)))
        return normed

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, training=self.training, method=self.dropout_method)
