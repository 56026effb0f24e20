"""Strings and their rows of ids, looked up and gathered by the hundred thousand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Ids = NDArray[np.uint16]


class Numbering(dict[str, int]):
    """Numbers strings 0, 1, ... in the order of their first appearance."""

    def __init__(self, *first: str) -> None:
        """Give `first` the first numbers; they do not count as new."""
        super().__init__((string, number) for number, string in enumerate(first))
        self._new: list[str] = []

    def __missing__(self, string: str) -> int:
        """Give a string not seen before the next number."""
        number = self[string] = len(self)
        self._new.append(string)
        return number

    def numbers(self, strings: Sequence[str]) -> IntArray:
        """Return the number of each string."""
        return np.fromiter(map(self.__getitem__, strings), np.int64, len(strings))

    def take_new(self) -> list[str]:
        """Return the strings numbered since the last call, in the order of their numbers."""
        new, self._new = self._new, []
        return new


class IdRows:
    """Rows of ids of different lengths in one flat array, by row number."""

    def __init__(self, *first: Sequence[int]) -> None:
        self._size = 0
        self._count = 0
        self._ids: Ids = np.empty(1 << 10, np.uint16)
        self._starts: IntArray = np.zeros(1 << 10, np.int64)
        self._lengths: IntArray = np.zeros(1 << 10, np.int64)
        lengths = np.array([len(row) for row in first], np.int64)
        self.extend(np.array([i for row in first for i in row], np.uint16), lengths)

    def extend(self, ids: Ids, lengths: IntArray) -> None:
        """Append rows; `ids` are all of theirs one after the other."""
        size, count = self._size + ids.size, self._count + lengths.size
        if size > self._ids.size:
            self._ids = np.resize(self._ids, 2 * size)
        if count > self._starts.size:
            self._starts = np.resize(self._starts, 2 * count)
            self._lengths = np.resize(self._lengths, 2 * count)
        self._ids[self._size : size] = ids
        self._lengths[self._count : count] = lengths
        self._starts[self._count : count] = self._size + np.cumsum(lengths) - lengths
        self._size, self._count = size, count

    def gather(self, numbers: IntArray) -> tuple[Ids, IntArray]:
        """Return the ids of these rows one after the other, and where each row ends in them."""
        lengths = self._lengths[numbers]
        ends = np.cumsum(lengths)
        index = np.repeat(self._starts[numbers] - (ends - lengths), lengths)
        index += np.arange(index.size)
        return self._ids[index], ends
