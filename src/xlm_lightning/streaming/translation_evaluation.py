"""Evaluation batches of translation: every pair of sentences in both directions."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from xlm_lightning.streaming.batch import TrainBatch
from xlm_lightning.streaming.pair_evaluation import evaluated_batches
from xlm_lightning.streaming.pair_slots import translation
from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.streaming.turns import MT


class TranslationEvaluationBatches(Dataset[TrainBatch]):
    """All batches of a split, pair after pair of languages, each there and then back."""

    def __init__(self, shards: PairShards, max_tokens: int | None = None) -> None:
        """Read about the first `max_tokens` tokens of each pair of languages, or all of them."""
        self._shards = shards
        self._batches = evaluated_batches(shards, max_tokens)

    def __len__(self) -> int:
        """Return the number of batches that hold a sentence."""
        return 2 * len(self._batches)

    def __getitem__(self, index: int) -> TrainBatch:
        """Return batch `index`; past the end one without rows, for ranks that have none left."""
        number, back = divmod(index, 2)
        nothing = (0, np.empty(0, np.int64))
        pair, numbers = self._batches[number] if index < len(self) else nothing
        batch = translation(self._shards, pair, numbers, forward=not back)
        return batch | {"numbers": torch.from_numpy(numbers), "slot": index, "objective": MT}
