"""Evaluation batches: every real token of a split is scored once, after the text before it.

The text of a language is one stream (its shards one after the other), cut into rows that overlap:
a row begins a quarter of its length before its first scored token, so that no token is predicted
from nothing just because a block begins there. Measured on the sample corpus at 128 tokens: the
first eight places of a block cost 0.3 nats a token more than the others, 0.02 nats over all; an
overlap of a half gains no more. A row has one token less than `stream_length`, since the last
place is never an input in training. The token before the first is `</s>`, which ends a line; the
padding behind the last is never scored.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import CLM

EOS, PAD = 1, 2  # as in xlm_lightning.text.vocabulary; streaming knows nothing of text
IGNORED = -100  # what torch's cross_entropy leaves out


class EvaluationBatch(TypedDict):
    """Inputs and targets of consecutive rows of one language."""

    tokens: Tensor  # uint16 (batch, time)
    targets: Tensor  # int64 (batch, time), IGNORED where nothing is scored
    language: int
    slot: int
    objective: str


class EvaluationBatches(Dataset[EvaluationBatch]):
    """All batches of a split, language after language in alphabetical order."""

    def __init__(self, shards: TokenShards, batch_size: int, max_tokens: int | None = None) -> None:
        """Score at most the first `max_tokens` tokens of each language, or all of them."""
        self._shards = shards
        self._time = shards.stream_length - 1
        self._context = shards.stream_length // 4  # tokens that the row before has scored
        self._stride = self._time - self._context
        self._batches = [
            (language, rows[start : start + batch_size], length)
            for language in shards.languages
            for length in [_scored(shards.length(language), max_tokens)]
            for rows in [self._rows(length)]
            for start in range(0, len(rows), batch_size)
        ]

    def __len__(self) -> int:
        """Return the number of batches that hold a real token."""
        return len(self._batches)

    def __getitem__(self, index: int) -> EvaluationBatch:
        """Return batch `index`; past the end an empty one, for the ranks that have none left."""
        if index >= len(self._batches):
            return self._batch(index, 0, range(1), np.empty(0, np.uint16))
        language, rows, length = self._batches[index]
        start = rows[0] * self._stride - 1  # the token before the first target of the first row
        stop = min(rows[-1] * self._stride + self._time, length)
        span = self._shards.read_span(language, max(start, 0), stop)
        if start < 0:
            span = np.concatenate([np.asarray([EOS], np.uint16), span])
        return self._batch(index, self._shards.languages.index(language), rows, span)

    def _rows(self, length: int) -> range:
        """Row r has the targets from `r * stride` on; the last one reaches the end of the text."""
        beyond = max(length - self._time, 0)
        return range(1 + -(-beyond // self._stride)) if length else range(0)

    def _batch(
        self, index: int, language: int, rows: range, span: NDArray[np.uint16]
    ) -> EvaluationBatch:
        """Cut `span`, the inputs and targets of all `rows`, into overlapping windows."""
        size = (len(rows) - 1) * self._stride + self._time + 1
        padded = np.full(size, PAD, np.uint16)
        padded[: len(span)] = span
        windows = sliding_window_view(padded, self._time + 1)[:: self._stride]
        places = sliding_window_view(np.arange(size), self._time)[1 :: self._stride]
        targets = np.where(places < len(span), windows[:, 1:].astype(np.int64), IGNORED)
        seen = targets if rows[0] else targets[1:]  # the first row of a text has none before it
        seen[:, : self._context] = IGNORED
        return {
            "tokens": torch.from_numpy(windows[:, :-1].copy()),
            "targets": torch.from_numpy(targets),
            "language": language,
            "slot": index,
            "objective": CLM,
        }


def _scored(length: int, max_tokens: int | None) -> int:
    return length if max_tokens is None else min(length, max_tokens)
