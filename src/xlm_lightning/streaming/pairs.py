"""Sentences and their translations: aligned lines of two languages, grouped into rows of a batch.

A row is `</s> sentence </s> </s> translation </s>`; positions begin anew at the translation, and
each half carries its own language (Conneau & Lample 2019, section 3.4). A batch holds as many rows
of similar length as fit into a number of tokens, padding included. Which rows belong together is
decided within windows of the files, so that neither memory nor the start grows with the text; the
windows and their batches are visited in the order of a `Plan`, as shards and blocks are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest, Shard
from xlm_lightning.streaming.mirror import Mirror
from xlm_lightning.streaming.philox import PAIRS, Indices, permutation
from xlm_lightning.streaming.plan import Recent
from xlm_lightning.streaming.rows import EOS, PAD, Rows, rows_of

WINDOW = 65536  # pairs that are sorted by length together


@dataclass(frozen=True)
class PairRows:
    """Rows of one pair of languages."""

    tokens: NDArray[np.uint16]  # (batch, time), padded behind
    positions: Indices  # (batch, time)
    languages: Indices  # (batch, time)
    lengths: Indices  # (batch,) real tokens
    numbers: Indices  # (batch,) of the pairs in their file

    @property
    def real(self) -> NDArray[np.bool_]:
        """(batch, time): False where there is padding."""
        mask: NDArray[np.bool_] = np.arange(self.tokens.shape[1]) < self.lengths[:, None]
        return mask


class PairShards:
    """All parallel text of a split."""

    def __init__(
        self,
        folder: Path,
        split: str,
        manifest: Manifest,
        mirror: Mirror | None = None,
        *,
        max_tokens: int,
        max_length: int,
        max_pairs: int | None = None,
    ) -> None:
        """`max_tokens` of a batch; pairs with a sentence above `max_length` tokens are left out.

        `max_pairs`: lines of each pair of languages, the first ones; None: all.
        `mirror`: brings the files of a folder that is one, when they are first read.
        """
        self.max_tokens = max_tokens
        self.max_length = max_length
        self.max_pairs = max_pairs
        self.pairs = sorted(manifest.parallel.get(split, {}))
        self.directions = directions(chain(*manifest.parallel.values()))  # alike in all splits
        self._languages = [
            [manifest.languages.index(language) for language in pair.split("-")]
            for pair in self.pairs
        ]
        self._sides = [
            [
                _Lines(folder, shards, mirror)
                for _, shards in sorted(manifest.parallel[split][pair].items())
            ]
            for pair in self.pairs
        ]

    def windows(self, pair: int) -> int:
        """Number of windows of a pair of languages."""
        return -(-self.lines(pair) // WINDOW)

    def tokens(self, pair: int, window: int) -> Indices:
        """(pairs of the window,) tokens of each row, 0 where it is left out."""
        span = slice(window * WINDOW, min((window + 1) * WINDOW, self.lines(pair)))
        first, second = (side.lengths(span) for side in self._sides[pair])
        fits = (np.minimum(first, second) > 1) & (np.maximum(first, second) <= self.max_length + 1)
        return np.where(fits, first + second + 2, 0)

    def lines(self, pair: int) -> int:
        """Number of lines of a pair of languages, those that are left out for length included."""
        lines = len(self._sides[pair][0])
        return lines if self.max_pairs is None else min(lines, self.max_pairs)

    def languages(self, pair: int) -> list[int]:
        """Both languages of a pair, as indices."""
        return self._languages[pair]

    def direction(self, pair: int, *, forward: bool) -> int:
        """Which of the `directions` a pair is from its first language to its second, or back."""
        names = self.pairs[pair].split("-")
        return self.directions.index("-".join(names if forward else reversed(names)))

    def sentences(self, pair: int, number: int) -> list[list[int]]:
        """Both sides of line `number`, each with its `</s>`."""
        return [side.read(number).tolist() for side in self._sides[pair]]

    def sides(self, pair: int, numbers: Indices) -> list[Rows]:
        """Read the pairs `numbers`, each language in rows of its own."""
        lines = numbers.tolist()
        return [rows_of([side.read(number) for number in lines]) for side in self._sides[pair]]

    def rows(self, pair: int, numbers: Indices) -> PairRows:
        """Read the pairs `numbers` of the pair's files."""
        halves = [
            [np.concatenate([[EOS], side.read(number)]) for number in numbers.tolist()]
            for side in self._sides[pair]
        ]
        lengths = np.array([[len(half) for half in side] for side in halves])  # (2, batch)
        shape = (len(numbers), int(lengths.sum(axis=0).max()))
        tokens = np.full(shape, PAD, np.uint16)
        for row, (first, second) in enumerate(zip(*halves, strict=True)):
            tokens[row, : len(first)] = first
            tokens[row, len(first) : len(first) + len(second)] = second
        place, turn = np.arange(shape[1]), lengths[0][:, None]
        in_second = place >= turn
        total = lengths.sum(axis=0)
        # Padding gets positions that exist; nothing else is asked of them.
        positions = np.where(place < total[:, None], np.where(in_second, place - turn, place), 0)
        languages = np.where(in_second, self._languages[pair][1], self._languages[pair][0])
        return PairRows(tokens, positions, languages, total, numbers)


def directions(pairs: Iterable[str]) -> list[str]:
    """`de-en` and `en-de` of each pair of languages, sorted."""
    return sorted({name for pair in pairs for name in (pair, "-".join(reversed(pair.split("-"))))})


class PairBatches:
    """The batches of all windows: what a `Plan` calls blocks of shards."""

    def __init__(self, shards: PairShards, seed: int) -> None:
        self.shards = shards
        self._seed = seed
        self._windows = Recent[list[Indices]](4 * len(shards.pairs) + 2)  # a plan mixes four

    def blocks(self) -> dict[str, list[int]]:
        """Batches of each window of each pair; reads the lengths of all lines once."""
        counts = {
            name: [len(self._batches_of(pair, w)) for w in range(self.shards.windows(pair))]
            for pair, name in enumerate(self.shards.pairs)
        }
        for name, batches in counts.items():
            if not sum(batches):
                raise UserError(
                    f"parallel text {name}: no pair of sentences has 1 to "
                    f"data.sentence_max_length={self.shards.max_length} tokens on either side"
                )
        return counts

    def numbers(self, pair: int, window: int, batch: int) -> Indices:
        """Lines of one batch."""
        return self._windows.get((pair, window), lambda: self._batches_of(pair, window))[batch]

    def _batches_of(self, pair: int, window: int) -> list[Indices]:
        tokens = self.shards.tokens(pair, window)
        order = permutation(len(tokens), self._seed, PAIRS, pair, window)
        return group_by_length(tokens, order, self.shards.max_tokens, window * WINDOW)


def group_by_length(
    tokens: Indices, order: Indices, max_tokens: int, first_number: int
) -> list[Indices]:
    """Numbers of the rows of each batch: neighbours in length, of one length as in `order`.

    Rows of 0 tokens are left out; a row longer than `max_tokens` makes a batch of its own.
    """
    order = order[tokens[order] > 0]
    order = order[np.argsort(tokens[order], kind="stable")]
    ordered = tokens[order]
    batches, start = [], 0
    while start < len(order):
        most = max(1, max_tokens // int(ordered[start]))
        lengths = ordered[start : start + most]
        fitting = lengths * np.arange(1, len(lengths) + 1) <= max_tokens
        stop = start + max(1, int(fitting.sum()))
        batches.append(order[start:stop] + first_number)
        start = stop
    return batches


class _Lines:
    """One side of parallel text: its lines by number, each with its `</s>`."""

    def __init__(self, folder: Path, shards: Sequence[Shard], mirror: Mirror | None) -> None:
        self._folder = folder
        self._mirror = mirror
        self._shards = shards
        self._first_lines = np.cumsum([0, *(shard.documents for shard in shards)])
        self._maps: dict[int, tuple[NDArray[np.uint16], NDArray[np.uint64]]] = {}

    def __len__(self) -> int:
        return int(self._first_lines[-1])

    def __getstate__(self) -> dict[str, object]:
        """Leave the maps behind: a spawned worker would get copies of whole files."""
        return {**self.__dict__, "_maps": {}}

    def lengths(self, span: slice) -> Indices:
        """Tokens of the lines of `span`."""
        parts = [np.empty(0, np.int64)]
        for index, first in enumerate(self._first_lines[:-1].tolist()):
            start, stop = max(span.start - first, 0), span.stop - first
            if start < self._shards[index].documents and stop > 0:
                ends = self._map(index)[1][max(start - 1, 0) : stop].astype(np.int64)
                parts.append(np.diff(ends, prepend=0) if start == 0 else np.diff(ends))
        return np.concatenate(parts)

    def read(self, number: int) -> NDArray[np.uint16]:
        """Tokens of line `number`."""
        index = int(np.searchsorted(self._first_lines, number, side="right")) - 1
        tokens, ends = self._map(index)
        line = number - int(self._first_lines[index])
        start = int(ends[line - 1]) if line else 0
        return tokens[start : int(ends[line])]

    def _map(self, index: int) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
        if index not in self._maps:
            shard = self._shards[index]
            # A map keeps a descriptor, and with it the lock under which a mirror opens a file.
            with self._open(shard.name) as tokens, self._open(shard.docs_name) as ends:
                np.lib.format.read_magic(ends)
                np.lib.format.read_array_header_1_0(ends)
                self._maps[index] = (
                    np.asarray(np.memmap(tokens, "<u2", "r")),
                    np.asarray(np.memmap(ends, "<u8", "r", offset=ends.tell())),
                )
        return self._maps[index]

    def _open(self, name: str) -> BufferedReader:
        return (self._folder / name).open("rb") if self._mirror is None else self._mirror.open(name)
