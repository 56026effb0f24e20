"""Loaders that Lightning leaves alone: the order of the data is decided here and nowhere else.

Lightning puts its own sampler into any `DataLoader` of a distributed run, so these classes are
none; they make one for each pass. Slots go to the workers by number and come back in order, so the
order is the same with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from xlm_lightning.errors import UserError
from xlm_lightning.streaming.batch import TrainBatch, hidden
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.pair_slots import PairSlots
from xlm_lightning.streaming.plan import Plan, Slot
from xlm_lightning.streaming.read_ahead import ReadAhead
from xlm_lightning.streaming.sentence_slots import SentenceSlots
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import AE, BT, MLM, MT, TLM, Turns


class SlotBatches(Dataset[TrainBatch]):
    """Slot number -> micro-batch."""

    def __init__(
        self,
        plan: Plan,
        shards: TokenShards,
        turns: Turns,
        masking: Masking,
        *,
        pairs: PairSlots | None = None,
        sentences: SentenceSlots | None = None,
        overfit_slots: int | None = None,
    ) -> None:
        """`pairs` and `sentences` are there for the objectives that are trained on them.

        `overfit_slots`: the first so many slots again and again, to debug a model.
        """
        self._plan = plan
        self._shards = shards
        self._turns = turns
        self._masking = masking
        self._pairs = pairs
        self._sentences = sentences
        self._overfit_slots = overfit_slots
        mirror = shards.mirror
        self._read_ahead = None if mirror is None else ReadAhead(shards, mirror)

    def __getitem__(self, slot: int) -> TrainBatch:
        """Read the rows of slot `slot`."""
        objective, number = self._turns.of_slot(slot)
        if self._overfit_slots:
            number %= self._overfit_slots
        if objective in (TLM, MT):
            batch = self._pair_rows(objective, number, slot)
        elif objective in (AE, BT):
            batch = self._sentence_rows(objective, number, slot)
        else:
            batch = self._blocks(objective, number, slot)
        tokens, lengths = batch["tokens"], batch.get("lengths")
        return batch | {
            "slot": slot,
            "real_tokens": tokens.numel() if lengths is None else int(lengths.sum()),
            "objective": objective,
            "weight": self._turns.weight(objective, slot),
        }

    def _blocks(self, objective: str, number: int, slot: int) -> TrainBatch:
        place = self._place(objective, self._plan, number)
        tokens = self._shards.read(place.language, place.shard, place.block)
        batch: TrainBatch = {"tokens": torch.from_numpy(tokens), "language": place.language}
        if objective == MLM:
            real = np.ones(tokens.shape, bool)
            batch |= hidden(self._masking.mask(tokens, real, self._plan.seed, slot))
        return batch

    def _sentence_rows(self, objective: str, number: int, slot: int) -> TrainBatch:
        assert self._sentences is not None
        place = self._place(objective, self._sentences.plan, number)
        if objective == AE:
            return self._sentences.denoised(place, slot)
        return self._sentences.back_translated(place, slot)

    def _pair_rows(self, objective: str, number: int, slot: int) -> TrainBatch:
        assert self._pairs is not None
        if objective == MT:
            return self._pairs.translated(number, slot)
        return self._pairs.masked(number, slot, self._masking)

    def _place(self, objective: str, plan: Plan, number: int) -> Slot:
        """Where slot `number` of an objective lies; of a mirror more is fetched from there on."""
        place = plan.slot(number)
        if self._read_ahead is not None:
            self._read_ahead.reaches(objective, plan, number, place)
        return place


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
