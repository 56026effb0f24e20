"""What is scored of a split: the batches of each objective, one objective after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from xlm_lightning.streaming.evaluation import EvaluationBatches
from xlm_lightning.streaming.masked_evaluation import MaskedEvaluationBatches
from xlm_lightning.streaming.pair_evaluation import PairEvaluationBatches
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import MLM

Batches = EvaluationBatches | MaskedEvaluationBatches | PairEvaluationBatches


def evaluation_batches(
    objective: str, shards: TokenShards, batch_size: int, max_tokens: int | None = None
) -> EvaluationBatches | MaskedEvaluationBatches:
    """Batches of the first `max_tokens` tokens of each language, or of all of them."""
    if objective == MLM:
        return MaskedEvaluationBatches(shards, batch_size, max_tokens)
    return EvaluationBatches(shards, batch_size, max_tokens)


class ScoredSplit(Dataset[Any]):
    """Several sets of batches as one; past the end, what the last one has there: nothing."""

    def __init__(self, parts: Sequence[Batches]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        """Return the number of batches that ask for something."""
        return sum(map(len, self._parts))

    def __getitem__(self, index: int) -> Any:
        """Return batch `index`."""
        for part in self._parts[:-1]:
            if index < len(part):
                return part[index]
            index -= len(part)
        return self._parts[-1][index]
