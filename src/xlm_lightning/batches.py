"""Work in batches, with a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def batches(items: Sequence[T], size: int, doing: str) -> Iterator[Sequence[T]]:
    """Yield `size` items at a time; `doing` stands before the bar of several batches."""
    starts = range(0, len(items), size)
    bar = tqdm(starts, desc=doing, file=sys.stderr, disable=None if len(starts) > 1 else True)
    return (items[start : start + size] for start in bar)
