"""The XLM transformer in plain torch: embeddings, post-norm layers, a tied output layer.

Layer order, epsilons and initialisation follow the original program (Lample & Conneau 2019, section
5.1, and its released code): x = tokens + positions + language -> norm -> dropout, then per layer
h = norm(h + drop(attention(h))), h = norm(h + drop(feed_forward(h))); no final norm. A decoder has
h = norm(h + drop(source_attention(h, source))) between the two.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xlm_lightning.attention import AttentionMethod, real_keys
from xlm_lightning.cache import LayerCache, padding_mask
from xlm_lightning.compilation import compiled
from xlm_lightning.cross_entropy import linear_cross_entropy
from xlm_lightning.dropout import DropoutMethod, dropout
from xlm_lightning.layers import NORM_EPS, Activation, Layer
from xlm_lightning.source import Source

Initialisation = Literal["original", "balanced"]
PositionInitialisation = Literal["random", "sinusoidal", "fixed_sinusoidal"]

PAD_ID = 2


class XLM(nn.Module):
    """A cross-lingual language model; every position carries the id of its language."""

    def __init__(
        self,
        *,
        vocab_size: int,
        num_languages: int,
        layers: int,
        dim: int,
        heads: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        max_positions: int = 512,
        attention: AttentionMethod = "auto",
        dropout_method: DropoutMethod = "auto",
        gradient_checkpointing: bool = False,
        compile_on_gpu: bool = False,
        init: Initialisation = "original",
        position_init: PositionInitialisation = "random",
        activation: Activation = "gelu",
        language_embeddings: bool = True,
        tied_output: bool = True,
        reads_source: bool = False,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {  # what a checkpoint needs to build the same model again
            "vocab_size": vocab_size,
            "num_languages": num_languages,
            "layers": layers,
            "dim": dim,
            "heads": heads,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "max_positions": max_positions,
            "position_init": position_init,
            "activation": activation,
            "language_embeddings": language_embeddings,
            "tied_output": tied_output,
        }
        if reads_source:
            self.arguments["reads_source"] = True  # said where it is so: older ones do not know it
        self.max_positions = max_positions
        self.dropout = dropout
        self.dropout_method: DropoutMethod = dropout_method
        self.gradient_checkpointing = gradient_checkpointing
        self.compile_on_gpu = compile_on_gpu
        self.tokens = nn.Embedding(vocab_size, dim, padding_idx=PAD_ID)
        self.positions = nn.Embedding(max_positions, dim)
        # The original adds a language only where there are several.
        several = num_languages > 1 and language_embeddings
        self.languages = nn.Embedding(num_languages, dim) if several else None
        self.embedding_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.layers = nn.ModuleList(
            Layer(
                dim,
                heads,
                dropout,
                attention_dropout,
                attention,
                dropout_method,
                activation,
                compile_on_gpu,
                reads_source,
            )
            for _ in range(layers)
        )
        self.output_weight = None if tied_output else nn.Parameter(torch.empty(vocab_size, dim))
        self.output_bias = nn.Parameter(torch.empty(vocab_size))
        self.sparse_lookup = tied_output  # whether a dense gradient always comes with it
        self._initialise(init, position_init)

    @torch.no_grad()
    def _initialise(self, init: Initialisation, position_init: PositionInitialisation) -> None:
        """Draw the weights; the pad row is zero, norms stay at 1 and 0.

        `original`: embeddings N(0, dim^-0.5), linears U(+-fan_in^-0.5) with their biases. Each
        position then favours its own token so much that the first loss is 13.6 at 6 x 1024, far
        above ln(64,699) = 11.1. `balanced`: embeddings so small that the own token's
        score, about 0.6 * dim * std, stays below 2.5, and no output bias: the first loss is
        ln(vocabulary), and a small model learns as fast.

        Positions are learned in both. Drawn at random, each place has to find out by itself which
        one stands before it; from sinusoids one map serves all (sample corpus, 1 M tokens: 0.179
        nats above the true entropy instead of 0.207). `fixed_sinusoidal` is the original's option:
        sinusoids of length 1 that are not learned.
        """
        dim = self.tokens.embedding_dim
        std = dim**-0.5 if init == "original" else min(2048**-0.5, 4.25 / dim)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=std)
            elif isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.uniform_(module.bias, -bound, bound)
        if init == "original":
            nn.init.uniform_(self.output_bias, -(dim**-0.5), dim**-0.5)
        else:
            nn.init.zeros_(self.output_bias)
        if self.output_weight is not None:
            nn.init.uniform_(self.output_weight, -(dim**-0.5), dim**-0.5)
        self.tokens.weight[PAD_ID].zero_()
        if position_init != "random":
            fixed = position_init == "fixed_sinusoidal"
            waves = sinusoids(*self.positions.weight.shape)
            self.positions.weight.copy_(waves * (1 if fixed else std * 2**0.5))  # the same spread
            self.positions.weight.requires_grad_(not fixed)

    def forward(
        self,
        tokens: Tensor,
        languages: Tensor,
        caches: list[LayerCache] | None = None,
        *,
        causal: bool = True,
        positions: Tensor | None = None,
        lengths: Tensor | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """Hidden states (batch, time, dim) of int64 `tokens` (batch, time).

        `languages` is int64 (batch, time), or anything that broadcasts to it, and so are
        `positions` (None: consecutive from the caches' length, or from 0). `causal`: a position
        sees itself and those before it; otherwise all. With `caches` (causal only) the tokens
        continue what the caches hold. Padding, if any, comes last: a causal model never looks at
        it, another is told the real `lengths` int64 (batch,); in caches it may come first, hidden
        by their mask. `source`: what a model that reads one is given; caches keep what they need of
        it, and are told it with the first tokens only.
        """
        if positions is None:
            start = caches[0].length if caches else 0
            end = start + tokens.shape[1]
            if end > self.max_positions:
                raise ValueError(f"{end} positions, but the model has {self.max_positions}")
            hidden = self._embed(tokens) + self.positions.weight[start:end]
        else:
            hidden = self._embed(tokens) + F.embedding(positions, self.positions.weight)
        if self.languages is not None:
            hidden = hidden + self.languages(languages)
        hidden = self.embedding_norm(hidden)
        hidden = dropout(hidden, self.dropout, training=self.training, method=self.dropout_method)
        real = None if lengths is None else real_keys(lengths, tokens.shape[1])
        for index, layer in enumerate(self.layers):
            if self.gradient_checkpointing and self.training:
                hidden = checkpoint(layer, hidden, causal, real, None, source, use_reentrant=False)
            else:
                hidden = layer(hidden, causal, real, caches[index] if caches else None, source)
        return hidden

    def _embed(self, tokens: Tensor) -> Tensor:
        """Rows of the embedding matrix, (batch, time, dim).

        On a CPU their gradient is sparse. It is added to that of the tied output layer, which is
        dense, so nobody sees it; but no second gradient of the matrix's size (265 MB in the
        published shape) has to be filled and added.
        """
        sparse = tokens.device.type == "cpu" and self.sparse_lookup
        return F.embedding(tokens, self.tokens.weight, PAD_ID, sparse=sparse)

    def _output_matrix(self) -> Tensor:
        return self.tokens.weight if self.output_weight is None else self.output_weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., vocabulary); the matrix is that of the embeddings, unless untied."""
        return F.linear(hidden, self._output_matrix(), self.output_bias)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean -ln p in nats of `targets` (...), given `hidden` (..., dim)."""
        matrix, bias = self._output_matrix(), self.output_bias
        faster = self.compile_on_gpu and self.training and hidden.is_cuda
        function = compiled(linear_cross_entropy, dynamic=True) if faster else linear_cross_entropy
        return function(hidden.flatten(0, -2), matrix, bias, targets.flatten())

    def new_caches(self, length: int, padding: Tensor | None = None) -> list[LayerCache]:
        """Empty caches for `length` positions.

        `padding` int64 (batch,): how many places at the beginning of each row hold nothing, so that
        prompts of unequal length end at the same place.
        """
        dtype = self.tokens.weight.dtype
        mask = None if padding is None else padding_mask(padding, length, dtype)
        return [LayerCache(length, mask) for _ in self.layers]


def sinusoids(max_positions: int, dim: int) -> Tensor:
    """(max_positions, dim): sin in even columns, cos in odd ones (Vaswani et al. 2017, 3.5).

    The original's table of frozen positions, its `sinusoidal_embeddings`.
    """
    column = torch.arange(dim)
    rates = 10_000 ** (-2 * (column // 2) / dim)
    angles = torch.arange(max_positions)[:, None] * rates
    return torch.where(column % 2 == 0, angles.sin(), angles.cos())
