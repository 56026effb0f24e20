"""A translator: an encoder reads a sentence, a decoder writes it in another language.

Both are XLM transformers of one shape, each with its embeddings and its tied output layer, so that
either can start from a language model (Conneau & Lample 2019, section 4.3). New in the decoder are,
in each layer, attention to the source and its norm.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from xlm_lightning.layers import Source
from xlm_lightning.model import XLM, real_keys


class Translator(nn.Module):
    """Sentences are `</s> x </s>`; the decoder reads `</s> y` and predicts `y </s>`."""

    def __init__(self, *, shared_embeddings: bool = False, **arguments: Any) -> None:
        """`arguments`: those of `XLM`, for both networks.

        `shared_embeddings`: tokens, positions and languages have one embedding in both.
        """
        super().__init__()
        self.encoder = XLM(**arguments)
        self.decoder = XLM(**arguments, reads_source=True)
        # A lookup without an output layer has a gradient of its own, which cannot be sparse.
        self.encoder.predicts = False
        if shared_embeddings:
            self.decoder.tokens = self.encoder.tokens
            self.decoder.positions = self.encoder.positions
            self.decoder.languages = self.encoder.languages
        self.arguments = {**self.encoder.arguments, "shared_embeddings": shared_embeddings}
        self.max_positions = self.encoder.max_positions

    def encode(self, tokens: Tensor, lengths: Tensor, languages: Tensor) -> Source:
        """Read `tokens` int64 (batch, time), padded behind their `lengths` (batch,).

        `languages`: int64, broadcastable to the tokens.
        """
        hidden = self.encoder(tokens, languages, causal=False, lengths=lengths)
        return Source(hidden, real_keys(lengths, tokens.shape[1]))

    def forward(self, tokens: Tensor, languages: Tensor, source: Source) -> Tensor:
        """Hidden states (batch, time, dim) of the decoder, each token told of those before it."""
        hidden: Tensor = self.decoder(tokens, languages, source=source)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., vocabulary) of the decoder's output layer."""
        return self.decoder.logits(hidden)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean -ln p in nats of `targets` (...), given `hidden` (..., dim)."""
        return self.decoder.loss(hidden, targets)
