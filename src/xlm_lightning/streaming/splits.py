"""What is scored of a split: the batches of each objective, one objective after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.streaming.evaluation import EvaluationBatches
from xlm_lightning.streaming.masked_evaluation import MaskedEvaluationBatches
from xlm_lightning.streaming.pair_evaluation import PairEvaluationBatches
from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.translation_evaluation import TranslationEvaluationBatches
from xlm_lightning.streaming.turns import AE, BT, CLM, MLM, MT, TLM, TRANSLATION

MonolingualBatches = EvaluationBatches | MaskedEvaluationBatches
Batches = MonolingualBatches | PairEvaluationBatches | TranslationEvaluationBatches


def require_parallel_text(manifest: Manifest, folder: Path, objectives: Collection[str]) -> None:
    """Raise `UserError` where a prepared folder lacks what objectives are trained or scored on."""
    for split in manifest.splits:
        if manifest.parallel.get(split):
            continue
        for objective in objectives:
            if objective in (TLM, MT) or (objective in (AE, BT) and split != "train"):
                use = " to be scored on" if objective in (AE, BT) else ""
                raise UserError(
                    f"objective.{objective} needs parallel text{use}, and {folder} has none for "
                    f"{split}; prepare it with corpus.parallel.de-en.{split}=[FILE,FILE], say"
                )


def evaluation_batches(
    objective: str, shards: TokenShards, batch_size: int, max_tokens: int | None = None
) -> MonolingualBatches:
    """Batches of the first `max_tokens` tokens of each language, or of all of them."""
    if objective == MLM:
        return MaskedEvaluationBatches(shards, batch_size, max_tokens)
    return EvaluationBatches(shards, batch_size, max_tokens)


class ScoredSplit(Dataset[Any]):
    """Several sets of batches as one; past the end, what the last one has there: nothing."""

    def __init__(self, parts: Sequence[Batches]) -> None:
        self._parts = parts

    @classmethod
    def of(
        cls,
        objectives: Collection[str],
        shards: TokenShards,
        pairs: PairShards,
        batch_size: int,
        max_tokens: int | None,
    ) -> ScoredSplit:
        """What a run for `objectives` is scored on; translation once, whichever of them trains it.

        `batch_size`: of blocks. At most the first `max_tokens` tokens of each text count.
        """
        parts: list[Batches] = []
        for objective in objectives:
            if objective in (CLM, MLM):
                parts.append(evaluation_batches(objective, shards, batch_size, max_tokens))
            elif objective == TLM:
                parts.append(PairEvaluationBatches(pairs, max_tokens))
        if any(objective in TRANSLATION for objective in objectives):
            parts.append(TranslationEvaluationBatches(pairs, max_tokens))
        return cls(parts)

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
