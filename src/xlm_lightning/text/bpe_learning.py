"""Learn BPE codes from word counts, incrementally and with numpy.

Rule: the pair with the highest count is merged next; among equal counts the pair whose (left,
right) strings come first in code point order, which is also the order of their UTF-8 bytes. Counts
are 64-bit. (fastBPE counts in 32 bits and breaks ties by the order of a C++ hash map.)
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
END_OF_WORD = "</w>"
MIN_PAIR_COUNT = 2  # a pair seen once is no pattern
_BARRIER, _DEAD = -1, -2  # in the array of symbols: a word's edge; the right half of a merge
_PAIR_BASE = 1 << 32  # a pair of symbol ids is one integer: left * base + right


def learn_bpe(word_counts: Mapping[str, int], merges: int) -> list[tuple[str, str, int]]:
    """Return at most `merges` codes `(left, right, count)`, best first."""
    learner = _Learner(word_counts)
    codes: list[tuple[str, str, int]] = []
    while len(codes) < merges:
        best = learner.pop_best()
        if best is None:
            break
        codes.append(best)
    return codes


class _Learner:
    """All words as one array of symbols, linked to their neighbours, with the count of every pair.

    `_where` lists the positions at which a pair has ever begun; stale ones are dropped when the
    pair is merged, so that a merge only touches its own occurrences.
    """

    def __init__(self, word_counts: Mapping[str, int]) -> None:
        words = sorted(word for word, count in word_counts.items() if word and count > 0)
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        counts = np.fromiter((word_counts[word] for word in words), np.int64, len(words))
        self._strings: list[str] = []
        self._ids: dict[str, int] = {}
        self._symbols = self._symbol_array(words, np.cumsum(lengths + 1))
        self._weights: IntArray = np.concatenate(([0], np.repeat(counts, lengths + 1)))
        self._next: IntArray = np.arange(1, self._symbols.size + 1)
        self._previous: IntArray = np.arange(-1, self._symbols.size - 1)
        self._counts: dict[int, int] = {}
        self._where: dict[int, list[IntArray]] = {}
        self._heap: list[tuple[int, str, str, int]] = []
        self._add(np.arange(self._symbols.size - 1))

    def _symbol_array(self, words: list[str], ends: IntArray) -> IntArray:
        """Give every character its id, the last of a word with `</w>`; barriers surround words."""
        text = " " + "".join(word + " " for word in words)
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
        is_barrier, is_last = np.zeros((2, points.size), bool)
        is_barrier[0] = is_barrier[ends] = is_last[ends - 1] = True
        keys = points * 2 + is_last
        distinct, symbols = np.unique(keys[~is_barrier], return_inverse=True)
        self._strings = [
            chr(key >> 1) + (END_OF_WORD if key & 1 else "") for key in distinct.tolist()
        ]
        self._ids = {string: index for index, string in enumerate(self._strings)}
        array = np.full(points.size, _BARRIER, np.int64)
        array[~is_barrier] = symbols
        return array

    def pop_best(self) -> tuple[str, str, int] | None:
        """Merge the best pair everywhere and return it, or None when no pair is frequent enough."""
        while self._heap:
            negative, left, right, pair = heapq.heappop(self._heap)
            count = self._counts.get(pair, 0)
            if count == -negative:
                self._merge(pair)
                return left, right, count
            if count >= MIN_PAIR_COUNT:  # the entry was stale: put the pair back where it belongs
                heapq.heappush(self._heap, (-count, left, right, pair))
        return None

    def _merge(self, pair: int) -> None:
        left_id, right_id = divmod(pair, _PAIR_BASE)
        first = self._occurrences(pair, left_id, right_id)
        second = self._next[first]
        after = self._next[second]
        # A position stands for the pair that begins there; a row of merges (abab) shares some.
        self._remove(np.unique(np.concatenate((self._previous[first], first, second))))
        self._symbols[first] = self._intern(self._strings[left_id] + self._strings[right_id])
        self._symbols[second] = _DEAD
        self._next[first] = after
        self._previous[after] = first
        self._add(np.unique(np.concatenate((self._previous[first], first))))
        del self._counts[pair], self._where[pair]

    def _occurrences(self, pair: int, left_id: int, right_id: int) -> IntArray:
        """Return where `pair` begins now, without overlaps: `aaa` holds `aa` once, at its start."""
        found: IntArray = np.unique(np.concatenate(self._where[pair]))
        found = found[self._symbols[found] == left_id]
        found = found[self._symbols[self._next[found]] == right_id]
        if left_id != right_id or not found.size:
            return found
        starts_run = np.ones(found.size, bool)
        starts_run[1:] = self._next[found[:-1]] != found[1:]
        run_starts = np.flatnonzero(starts_run)
        index_in_run = np.arange(found.size) - run_starts[np.cumsum(starts_run) - 1]
        first: IntArray = found[index_in_run % 2 == 0]
        return first

    def _intern(self, string: str) -> int:
        """Return the id of a symbol; two merges may give the same string and then the same id."""
        index = self._ids.setdefault(string, len(self._strings))
        if index == len(self._strings):
            self._strings.append(string)
        return index

    def _grouped(self, at: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Group positions by the pair beginning there: pairs, counts, positions, group starts."""
        left, right = self._symbols[at], self._symbols[self._next[at]]
        inside = (left >= 0) & (right >= 0)
        at, pairs = at[inside], (left * _PAIR_BASE + right)[inside]
        order = np.argsort(pairs, kind="stable")
        at, pairs = at[order], pairs[order]
        starts = np.flatnonzero(np.diff(pairs, prepend=-1))
        counts = np.add.reduceat(self._weights[at], starts) if at.size else starts
        return pairs[starts], counts, at, starts

    def _remove(self, at: IntArray) -> None:
        pairs, counts, _, _ = self._grouped(at)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._counts[pair] -= count

    def _add(self, at: IntArray) -> None:
        pairs, counts, at, starts = self._grouped(at)
        places = np.split(at, starts[1:])
        for pair, count, where in zip(pairs.tolist(), counts.tolist(), places, strict=False):
            total = self._counts.get(pair, 0) + count
            self._counts[pair] = total
            self._where.setdefault(pair, []).append(where)
            if total >= MIN_PAIR_COUNT:
                left_id, right_id = divmod(pair, _PAIR_BASE)
                entry = (-total, self._strings[left_id], self._strings[right_id], pair)
                heapq.heappush(self._heap, entry)
