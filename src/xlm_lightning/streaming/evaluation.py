"""Evaluation batches: every real token of a split is scored once, with its predecessor as input.

The text of a language is one stream (its shards one after the other). The token before the first is
`</s>`, which ends a line; the padding behind the last is never scored.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xlm_lightning.streaming.shards import TokenShards

EOS, PAD = 1, 2  # as in xlm_lightning.text.vocabulary; streaming knows nothing of text
IGNORED = -100  # what torch's cross_entropy leaves out


class EvaluationBatch(TypedDict):
    """Inputs and targets of consecutive blocks of one language."""

    tokens: Tensor  # uint16 (batch, time)
    targets: Tensor  # int64 (batch, time), IGNORED where nothing is scored
    language: int
    slot: int


class EvaluationBatches(Dataset[EvaluationBatch]):
    """All batches of a split, language after language in alphabetical order."""

    def __init__(self, shards: TokenShards, batch_size: int, max_tokens: int | None = None) -> None:
        """Score at most the first `max_tokens` tokens of each language, or all of them."""
        self._shards = shards
        self._batch_size = batch_size
        self._spans = [
            (language, start, min(start + batch_size * shards.stream_length, length))
            for language in shards.languages
            for length in [_scored(shards.length(language), max_tokens)]
            for start in range(0, length, batch_size * shards.stream_length)
        ]

    def __len__(self) -> int:
        """Return the number of batches that hold a real token."""
        return len(self._spans)

    def __getitem__(self, index: int) -> EvaluationBatch:
        """Return batch `index`; past the end an empty one, for the ranks that have none left."""
        if index >= len(self._spans):
            return self._batch(index, 0, np.empty(0, np.uint16))
        language, start, stop = self._spans[index]
        before = [EOS] if start == 0 else []
        span = self._shards.read_span(language, max(start - 1, 0), stop)
        return self._batch(
            index,
            self._shards.languages.index(language),
            np.concatenate([np.asarray(before, np.uint16), span]),
        )

    def _batch(self, index: int, language: int, span: NDArray[np.uint16]) -> EvaluationBatch:
        """Cut `span`, the token before the first scored one included, into rows."""
        length = self._shards.stream_length
        scored = max(len(span) - 1, 0)
        rows = max(-(-scored // length), 1)
        tokens = np.full(rows * length, PAD, np.uint16)
        targets = np.full(rows * length, IGNORED, np.int64)
        tokens[:scored] = span[:scored]
        targets[:scored] = span[1:]
        return {
            "tokens": torch.from_numpy(tokens.reshape(rows, length)),
            "targets": torch.from_numpy(targets.reshape(rows, length)),
            "language": language,
            "slot": index,
        }


def _scored(length: int, max_tokens: int | None) -> int:
    return length if max_tokens is None else min(length, max_tokens)
