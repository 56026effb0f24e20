"""Evaluation batches of a masked model: the text in whole blocks, a fixed share of them hidden.

The hidden tokens depend on the language and the block only, so that the figures of two runs, of two
steps of a run, and of any number of ranks are of the same tokens. The last block is shorter; it
makes a batch of its own, so that nothing is ever padded.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from xlm_lightning.streaming.masking import mask_for_evaluation
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import MLM


class MaskedBatch(TypedDict):
    """Blocks of one language with tokens hidden in them."""

    tokens: Tensor  # uint16 (batch, time)
    places: Tensor  # int64 (n,) of the hidden tokens in the flattened batch
    targets: Tensor  # int64 (n,) what stood there
    language: int
    slot: int
    objective: str


class MaskedEvaluationBatches(Dataset[MaskedBatch]):
    """All batches of a split, language after language in alphabetical order."""

    def __init__(self, shards: TokenShards, batch_size: int, max_tokens: int | None = None) -> None:
        """Read at most the first `max_tokens` tokens of each language, or all of them."""
        self._shards = shards
        self._spans = [
            (language, start, min(start + size, end))
            for language, tokens in enumerate(map(shards.length, shards.languages))
            for length in [tokens if max_tokens is None else min(tokens, max_tokens)]
            for whole in [length - length % shards.stream_length]
            for size, begin, end in [
                (batch_size * shards.stream_length, 0, whole),
                (shards.stream_length, whole, length),
            ]
            for start in range(begin, end, size)
            if end - start > 1  # the first token of a block is never hidden
        ]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._spans)

    def __getitem__(self, index: int) -> MaskedBatch:
        """Return batch `index`; past the end one that hides nothing, for ranks with none left."""
        if index >= len(self._spans):
            nothing = torch.empty(0, dtype=torch.int64)
            tokens = torch.zeros(1, 1, dtype=torch.uint16)
            return _batch(tokens, nothing, nothing, 0, index)
        language, start, stop = self._spans[index]
        length = self._shards.stream_length
        span = self._shards.read_span(self._shards.languages[language], start, stop)
        rows = span.reshape(-1, min(length, len(span)))
        real = np.ones(rows.shape, bool)
        numbers = start // length + np.arange(len(rows))
        hidden = mask_for_evaluation(rows, real, language, numbers)
        places, targets = torch.from_numpy(hidden.places), torch.from_numpy(hidden.targets)
        return _batch(torch.from_numpy(hidden.inputs), places, targets, language, index)


def _batch(
    tokens: Tensor, places: Tensor, targets: Tensor, language: int, slot: int
) -> MaskedBatch:
    return {
        "tokens": tokens,
        "places": places,
        "targets": targets,
        "language": language,
        "slot": slot,
        "objective": MLM,
    }
