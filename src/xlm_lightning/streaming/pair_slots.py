"""Training on parallel text: hidden tokens of both sentences (tlm), or one from the other (mt)."""

from __future__ import annotations

from dataclasses import dataclass

from xlm_lightning.streaming.batch import (
    TrainBatch,
    hidden,
    pair_tensors,
    source_tensors,
    target_tensors,
)
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.pairs import PairBatches, PairShards
from xlm_lightning.streaming.philox import DIRECTIONS, Indices, uniforms
from xlm_lightning.streaming.plan import Plan


@dataclass(frozen=True)
class PairSlots:
    """Batches of parallel text, and the order in which they come."""

    plan: Plan  # of batches, one a slot, in windows instead of shards
    batches: PairBatches

    @classmethod
    def of(cls, shards: PairShards, seed: int, alpha: float) -> PairSlots:
        """Pairs of languages are drawn as languages are, q ~ p^alpha by their batches."""
        batches = PairBatches(shards, seed)
        return cls(Plan(seed, 1, batches.blocks(), alpha), batches)

    def masked(self, number: int, slot: int, masking: Masking) -> TrainBatch:
        """Batch `number` as rows of both sentences, of which tokens are hidden."""
        pair, numbers = self._place(number)
        rows = self.batches.shards.rows(pair, numbers)
        masked = masking.mask(rows.tokens, rows.real, self.plan.seed, slot)
        return pair_tensors(rows) | hidden(masked) | {"pair": pair}

    def translated(self, number: int, slot: int) -> TrainBatch:
        """Batch `number` in one direction or the other, by the toss of a coin."""
        pair, numbers = self._place(number)
        forward = bool(uniforms((1,), self.plan.seed, DIRECTIONS, slot)[0] < 0.5)
        return translation(self.batches.shards, pair, numbers, forward=forward)

    def _place(self, number: int) -> tuple[int, Indices]:
        place = self.plan.slot(number)
        pair = place.language
        return pair, self.batches.numbers(pair, int(place.shard[0]), int(place.block[0]))


def translation(shards: PairShards, pair: int, numbers: Indices, *, forward: bool) -> TrainBatch:
    """Lines `numbers` of a pair of languages, the second to be reached from the first (`forward`)
    or the other way about."""
    sides = list(zip(shards.sides(pair, numbers), shards.languages(pair), strict=True))
    source, target = sides if forward else reversed(sides)
    direction = shards.direction(pair, forward=forward)
    return target_tensors(*target) | source_tensors(*source) | {"pair": direction}
