"""Evaluation batches of parallel text: fixed tokens of each row hidden, rows of like length."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from xlm_lightning.streaming.batch import TrainBatch, hidden, pair_tensors
from xlm_lightning.streaming.masking import mask_for_evaluation
from xlm_lightning.streaming.pairs import WINDOW, PairShards, group_by_length
from xlm_lightning.streaming.philox import Indices
from xlm_lightning.streaming.turns import TLM


class PairEvaluationBatches(Dataset[TrainBatch]):
    """All batches of a split, pair after pair of languages in alphabetical order."""

    def __init__(self, shards: PairShards, max_tokens: int | None = None) -> None:
        """Read about the first `max_tokens` tokens of each pair of languages, or all of them."""
        self._shards = shards
        self._batches = evaluated_batches(shards, max_tokens)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __getitem__(self, index: int) -> TrainBatch:
        """Return batch `index`; past the end one that hides nothing, for ranks with none left."""
        pair, numbers = self._batches[min(index, len(self) - 1)]
        rows = self._shards.rows(pair, numbers)
        masked = mask_for_evaluation(rows.tokens, rows.real, pair, numbers)
        batch = pair_tensors(rows) | hidden(masked)
        if index >= len(self):
            nothing = torch.empty(0, dtype=torch.int64)
            batch |= {"places": nothing, "targets": nothing}
        return batch | {"pair": pair, "slot": index, "objective": TLM}


def evaluated_batches(shards: PairShards, max_tokens: int | None) -> list[tuple[int, Indices]]:
    """Pair of languages and lines of each batch: of all lines, or about the first `max_tokens`."""
    return [
        (pair, numbers)
        for pair in range(len(shards.pairs))
        for window in range(shards.windows(pair))
        for tokens in [shards.tokens(pair, window)]
        for order in [np.arange(_first(tokens, max_tokens) if window == 0 else len(tokens))]
        if window == 0 or max_tokens is None
        for numbers in group_by_length(tokens, order, shards.max_tokens, window * WINDOW)
    ]


def _first(tokens: np.ndarray[tuple[int], np.dtype[np.int64]], max_tokens: int | None) -> int:
    """How many rows make up the first `max_tokens`, at least one."""
    if max_tokens is None:
        return len(tokens)
    return max(1, int(np.searchsorted(np.cumsum(tokens), max_tokens, side="right")))
