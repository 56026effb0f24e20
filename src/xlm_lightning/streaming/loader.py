"""Loaders that Lightning leaves alone: the order of the data is decided here and nowhere else.

Lightning puts its own sampler into any `DataLoader` of a distributed run, so these classes are
none; they make one for each pass. Slots go to the workers by number and come back in order, so the
order is the same with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xlm_lightning.errors import UserError
from xlm_lightning.streaming.masking import Masked, Masking
from xlm_lightning.streaming.pairs import PairBatches, PairRows, PairShards
from xlm_lightning.streaming.plan import Plan
from xlm_lightning.streaming.read_ahead import ReadAhead
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import MLM, TLM, Turns


class TrainBatch(TypedDict, total=False):
    """The rows of one slot. Some are there for some objectives only."""

    tokens: Tensor  # uint16 (batch, time), hidden ones replaced
    places: Tensor  # mlm, tlm: int64 (n,) of the hidden tokens in the flattened batch
    targets: Tensor  # mlm, tlm: int64 (n,) what stood there
    language: int  # clm, mlm
    pair: int  # tlm, as are the next three
    languages: Tensor  # int64 (batch, time)
    positions: Tensor  # int64 (batch, time)
    lengths: Tensor  # int64 (batch,) real tokens
    slot: int
    real_tokens: int  # padding left out
    objective: str
    weight: float  # of the loss


class SlotBatches(Dataset[TrainBatch]):
    """Slot number -> micro-batch."""

    def __init__(
        self,
        plan: Plan,
        shards: TokenShards,
        turns: Turns,
        masking: Masking,
        pairs: PairSlots | None = None,
        overfit_slots: int | None = None,
    ) -> None:
        """`overfit_slots`: the first so many slots again and again, to debug a model."""
        self._plan = plan
        self._shards = shards
        self._turns = turns
        self._masking = masking
        self._pairs = pairs
        self._overfit_slots = overfit_slots
        mirror = shards.mirror
        self._read_ahead = None if mirror is None else ReadAhead(plan, shards, mirror)

    def __getitem__(self, slot: int) -> TrainBatch:
        """Read the rows of slot `slot`."""
        objective, number = self._turns.of_slot(slot)
        if self._overfit_slots:
            number %= self._overfit_slots
        if objective == TLM:
            batch = self._pair_rows(number, slot)
        else:
            batch = self._blocks(objective, number)
        if objective == MLM:
            tokens = batch["tokens"].numpy()
            real = np.ones(tokens.shape, bool)
            batch |= hidden(self._masking.mask(tokens, real, self._plan.seed, slot))
        return batch | {
            "slot": slot,
            "objective": objective,
            "weight": self._turns.weight(objective, slot),
        }

    def _blocks(self, objective: str, number: int) -> TrainBatch:
        blocks = self._plan.slot(number)
        if self._read_ahead is not None:
            self._read_ahead.reaches(objective, number, blocks)
        tokens = self._shards.read(blocks.language, blocks.shard, blocks.block)
        return {
            "tokens": torch.from_numpy(tokens),
            "language": blocks.language,
            "real_tokens": tokens.size,
        }

    def _pair_rows(self, number: int, slot: int) -> TrainBatch:
        assert self._pairs is not None
        place = self._pairs.plan.slot(number)
        rows = self._pairs.batches.read(place.language, int(place.shard[0]), int(place.block[0]))
        masked = self._masking.mask(rows.tokens, rows.real, self._plan.seed, slot)
        batch = pair_tensors(rows) | hidden(masked)
        return batch | {"pair": place.language, "real_tokens": int(rows.lengths.sum())}


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


def pair_tensors(rows: PairRows) -> TrainBatch:
    """What a model is told of the rows besides their tokens."""
    return {
        "languages": torch.from_numpy(rows.languages),
        "positions": torch.from_numpy(rows.positions),
        "lengths": torch.from_numpy(rows.lengths),
    }


def hidden(masked: Masked) -> TrainBatch:
    """Tokens as they are seen, and what is asked."""
    return {
        "tokens": torch.from_numpy(masked.inputs),
        "places": torch.from_numpy(masked.places),
        "targets": torch.from_numpy(masked.targets),
    }


class OrderedLoader:
    """The batches `numbers()` of a dataset, in that order."""

    def __init__(
        self,
        dataset: Dataset[Any],
        numbers: Callable[[], range],
        *,
        length: int,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """`length`: batches in a whole pass; `numbers` may be the rest of one."""
        self._dataset = dataset
        self._numbers = numbers
        self._length = length
        self._workers = workers
        self._pin_memory = pin_memory

    def __len__(self) -> int:
        """Return a length, without which Lightning fetches one batch more than it trains on."""
        return self._length

    def __iter__(self) -> Iterator[Any]:
        """Start a pass at its first `next`: Lightning calls `iter` early, and more than once."""
        try:
            yield from DataLoader(
                self._dataset,
                batch_size=None,
                sampler=self._numbers(),
                num_workers=self._workers,
                pin_memory=self._pin_memory,
                generator=torch.Generator(),  # else it would draw from the global one
            )
        except UserError as error:  # of a worker, whose traceback torch puts before it
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from error


class TrainLoader(OrderedLoader):
    """The slots of one rank, from the first that no rank has consumed yet."""

    def __init__(
        self,
        dataset: SlotBatches,
        next_slot: Callable[[], int],
        *,
        rank: int,
        world_size: int,
        length: int,
        workers: int,
        pin_memory: bool,
    ) -> None:
        """`next_slot()`, of all ranks, is asked at the start of a pass and for the state."""

        def numbers() -> range:
            start = next_slot() + rank
            return range(start, start + length * world_size, world_size)

        super().__init__(dataset, numbers, length=length, workers=workers, pin_memory=pin_memory)
        self._next_slot = next_slot

    def state_dict(self) -> dict[str, int]:
        """Return the next slot; without a state Lightning warns that a run cannot be resumed."""
        return {"slot": self._next_slot()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The data module, which is restored first, knows the next slot."""
