"""The plan: which blocks make up slot g, as a pure function of the seed, the shards and g.

A slot is one micro-batch, `batch_size` blocks of one language; slots are numbered globally and rank
r of W takes slots r, W + r, 2W + r, ... So the order of the data depends neither on the number of
ranks or workers nor on where a run was stopped, and its state is one integer: the next slot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xlm_lightning.errors import UserError
from xlm_lightning.streaming.philox import (
    BLOCKS,
    LANGUAGE,
    SHARDS,
    Indices,
    permutation,
    random_words,
)

PLAN_VERSION = 1  # raise it with any change that moves a single block to another slot
CHUNK = 16384  # slots whose languages are drawn together
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Slot:
    """One micro-batch: block `block[i]` of shard `shard[i]` is its row i."""

    language: int
    shard: Indices  # (batch,)
    block: Indices  # (batch,)


@dataclass(frozen=True)
class _Chunk:
    """The languages of `CHUNK` slots, and how many slots of the same language precede each."""

    language: NDArray[np.int64]  # (CHUNK,)
    earlier: Indices  # (CHUNK,) counted from slot 0


@dataclass(frozen=True)
class _Pass:
    """The shards of a language in the order of one pass over them, cut into windows."""

    shards: Indices  # a permutation
    window_ends: Indices  # in blocks from the start of the pass


class _Window(NamedTuple):
    """Shards of a language whose blocks are mixed with each other."""

    name: tuple[int, int]  # number of the pass, of the window in it
    start: int  # in blocks of the language, of all passes
    end: int
    shards: Indices


class Plan:
    """Maps the number of a slot to its blocks, at any point without what came before."""

    def __init__(
        self,
        seed: int,
        batch_size: int,
        blocks: Mapping[str, Sequence[int]],
        alpha: float,
        window_shards: int = 4,
    ) -> None:
        """Take the number of blocks of each shard of each language.

        A language without any keeps its number and is never drawn. Memory: one permutation of
        `window_shards` shards per language and two to spare, at 4 bytes a block.
        """
        self.seed = seed
        self.batch_size = batch_size
        self.alpha = alpha
        self.window_shards = window_shards
        self.languages = sorted(blocks)
        self._blocks = [np.asarray(blocks[language], np.int64) for language in self.languages]
        self._total = [int(counts.sum()) for counts in self._blocks]
        if not sum(self._total):
            raise UserError("no language has a block to train on")
        self._thresholds = self._language_thresholds()
        self._counts = np.zeros((1, len(self.languages)), np.int64)  # (chunks known + 1, languages)
        self._chunks = Recent[_Chunk](2)
        self._passes = Recent[_Pass](len(self.languages) + 2)
        self._windows = Recent[NDArray[np.int32]](len(self.languages) + 2)

    @property
    def probabilities(self) -> dict[str, float]:
        """Chance of each language: q ~ p^alpha (Conneau & Lample 2019, section 3.1).

        The original takes p from the numbers of sentences of the train files; here it is the share
        of blocks, that is of tokens, which is what a training step consumes.
        """
        shares = np.asarray(self._total, np.float64) / sum(self._total)
        weights = np.where(shares > 0, shares**self.alpha, 0.0)
        return dict(zip(self.languages, (weights / weights.sum()).tolist(), strict=True))

    def slot(self, number: int) -> Slot:
        """Return the blocks of slot `number`; 6-60 us when slots come in order."""
        chunk = self._chunks.get(number // CHUNK, lambda: self._draw_chunk(number // CHUNK))
        language = int(chunk.language[number % CHUNK])
        position = int(chunk.earlier[number % CHUNK]) * self.batch_size
        shards, blocks = [], []
        remaining = self.batch_size
        while remaining:  # a slot may cross the end of a window or of a pass
            shard, block = self._window_blocks(language, position, remaining)
            shards.append(shard)
            blocks.append(block)
            position += len(shard)
            remaining -= len(shard)
        return Slot(language, np.concatenate(shards), np.concatenate(blocks))

    def windows(self, number: int) -> dict[str, tuple[Indices, Indices]]:
        """Shards of each language that slots from `number` on read: now, and in the next window."""
        windows = {}
        for index, (language, slots) in enumerate(self.counts(number).items()):
            if not self._total[index]:
                continue
            here = self._window_at(index, slots * self.batch_size)
            windows[language] = (here.shards, self._window_at(index, here.end).shards)
        return windows

    def counts(self, number: int) -> dict[str, int]:
        """Slots of each language among the first `number`; 1 s for 32 million, then remembered."""
        chunk, rest = divmod(number, CHUNK)
        counts = self._counts_before(chunk).copy()
        if rest:
            counts += np.bincount(self._draw_languages(chunk)[:rest], minlength=len(counts))
        return dict(zip(self.languages, counts.tolist(), strict=True))

    def _language_thresholds(self) -> NDArray[np.uint64]:
        # In 1 / 2^32, so that the last bit of a platform's pow() practically never moves a slot.
        cumulated = np.cumsum(list(self.probabilities.values()))[:-1]
        return np.round(cumulated * 2.0**32).astype(np.uint64)

    def _draw_languages(self, chunk: int) -> NDArray[np.int64]:
        """Languages of the slots of `chunk`: (CHUNK,)."""
        words = random_words(CHUNK, self.seed, LANGUAGE, chunk)
        draws = words >> np.uint64(32)
        return np.searchsorted(self._thresholds, draws, side="right")

    def _draw_chunk(self, chunk: int) -> _Chunk:
        languages = self._draw_languages(chunk)
        before = self._counts_before(chunk)
        earlier = np.empty(CHUNK, np.int64)
        for language in range(len(self.languages)):
            here = np.flatnonzero(languages == language)
            earlier[here] = before[language] + np.arange(len(here))
        return _Chunk(languages, earlier)

    def _counts_before(self, chunk: int) -> Indices:
        """Slots of each language before `chunk`: (languages,)."""
        known = len(self._counts) - 1
        if chunk > known:
            new = [
                np.bincount(self._draw_languages(number), minlength=len(self.languages))
                for number in range(known, chunk)
            ]
            later = self._counts[-1] + np.cumsum(new, axis=0)
            self._counts = np.concatenate([self._counts, later])
        counts: Indices = self._counts[chunk]
        return counts

    def _window_blocks(self, language: int, position: int, limit: int) -> tuple[Indices, Indices]:
        """Return (shard, block) of at most `limit` blocks from `position`, up to a window's end."""
        window = self._window_at(language, position)
        order = self._windows.get(
            (language, *window.name), lambda: self._draw_window(language, window)
        )
        offset = position - window.start
        blocks = order[offset : offset + limit].astype(np.int64)
        shards = window.shards
        ends = np.cumsum(self._blocks[language][shards])
        index = np.searchsorted(ends, blocks, side="right")
        return shards[index], blocks - (ends - self._blocks[language][shards])[index]

    def _window_at(self, language: int, position: int) -> _Window:
        number, offset = divmod(position, self._total[language])
        one_pass = self._passes.get((language, number), lambda: self._draw_pass(language, number))
        window = int(np.searchsorted(one_pass.window_ends, offset, side="right"))
        before = position - offset
        start = before + (int(one_pass.window_ends[window - 1]) if window else 0)
        end = before + int(one_pass.window_ends[window])
        shards = one_pass.shards[window * self.window_shards : (window + 1) * self.window_shards]
        return _Window((number, window), start, end, shards)

    def _draw_pass(self, language: int, number: int) -> _Pass:
        counts = self._blocks[language]
        shards = permutation(len(counts), self.seed, SHARDS, language, number)
        last = np.arange(self.window_shards, len(counts) + self.window_shards, self.window_shards)
        ends = np.cumsum(counts[shards])[np.minimum(last, len(counts)) - 1]
        return _Pass(shards, ends)

    def _draw_window(self, language: int, window: _Window) -> NDArray[np.int32]:
        total = window.end - window.start
        order = permutation(total, self.seed, BLOCKS, language, *window.name)
        return order.astype(np.int32)


class Recent(Generic[_Value]):
    """The `size` values used last; older ones are made again when needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, _Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """Return the value of `key`, made by `make` when it is not at hand."""
        if key not in self._values:
            self._values[key] = make()
            if len(self._values) > self._size:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]
