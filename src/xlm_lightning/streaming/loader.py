"""Loaders that Lightning leaves alone: the order of the data is decided here and nowhere else.

Lightning puts its own sampler into any `DataLoader` of a distributed run, so these classes are
none; they make one for each pass. Slots go to the workers by number and come back in order, so the
order is the same with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xlm_lightning.errors import UserError
from xlm_lightning.streaming.plan import Plan
from xlm_lightning.streaming.shards import TokenShards


class TrainBatch(TypedDict):
    """The blocks of one slot."""

    tokens: Tensor  # uint16 (batch, time)
    language: int
    slot: int


class SlotBatches(Dataset[TrainBatch]):
    """Slot number -> micro-batch."""

    def __init__(self, plan: Plan, shards: TokenShards, overfit_slots: int | None = None) -> None:
        """`overfit_slots`: the plan's first so many slots again and again, to debug a model."""
        self._plan = plan
        self._shards = shards
        self._overfit_slots = overfit_slots

    def __getitem__(self, number: int) -> TrainBatch:
        """Read the blocks of slot `number`."""
        slot = self._plan.slot(number % self._overfit_slots if self._overfit_slots else number)
        tokens = self._shards.read(slot.language, slot.shard, slot.block)
        return {"tokens": torch.from_numpy(tokens), "language": slot.language, "slot": number}


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
        yield from DataLoader(
            self._dataset,
            batch_size=None,
            sampler=self._numbers(),
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            generator=torch.Generator(),  # else it would draw from the global one
        )


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
        """Check that the data module, which is restored first, stands at the same slot."""
        if state["slot"] != self._next_slot():
            raise UserError(
                f"the checkpoint was taken at slot {state['slot']} of the data, but its data state "
                f"says {self._next_slot()}: the checkpoint is damaged, resume from another one"
            )
