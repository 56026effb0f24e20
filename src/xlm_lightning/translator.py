"""Two XLM networks that translate: one reads a sentence, one writes it in another language."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from xlm_lightning.attention import real_keys
from xlm_lightning.model import XLM
from xlm_lightning.source import Source


class Translator(nn.Module):
    """An encoder that sees all of a sentence, and a causal decoder that reads it.

    Both are of the same shape, as in the original, so that one pretrained model can begin either.
    The encoder reads `</s> x </s>`; the decoder reads `</s> y` and predicts `y </s>`.
    """

    def __init__(self, *, shared_embeddings: bool = False, **arguments: Any) -> None:
        """Take the `arguments` of XLM, for both.

        `shared_embeddings`: the decoder has the encoder's embeddings of tokens, positions and
        languages, and so its output layer, unless untied.
        """
        super().__init__()
        self.encoder = XLM(**arguments)
        self.decoder = XLM(**arguments, reads_source=True)
        self.arguments: dict[str, Any] = {  # what a checkpoint needs to build the same model again
            **self.encoder.arguments,
            "shared_embeddings": shared_embeddings,
        }
        self.max_positions = self.encoder.max_positions
        if shared_embeddings:
            self.decoder.tokens = self.encoder.tokens
            self.decoder.positions = self.encoder.positions
            self.decoder.languages = self.encoder.languages
        else:
            self.encoder.sparse_lookup = False  # its output layer takes no part in a translation

    def encode(self, tokens: Tensor, lengths: Tensor, languages: Tensor) -> Source:
        """Read `tokens` int64 (batch, time), of which the first `lengths` (batch,) are real.

        `languages` is int64 (batch, time), or anything that broadcasts to it.
        """
        hidden = self.encoder(tokens, languages, causal=False, lengths=lengths)
        return Source(hidden, real_keys(lengths, tokens.shape[1]))

    def forward(self, tokens: Tensor, languages: Tensor, source: Source) -> Tensor:
        """Hidden states (batch, time, dim) of the decoder at each of `tokens` (batch, time).

        Padding comes last, where no position that counts looks.
        """
        hidden: Tensor = self.decoder(tokens, languages, source=source)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., vocabulary) of the next token."""
        return self.decoder.logits(hidden)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean -ln p in nats of `targets` (...), given `hidden` (..., dim) of the decoder."""
        return self.decoder.loss(hidden, targets)
