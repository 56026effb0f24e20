"""The last documents of a corpus become its valid and test text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from xlm_lightning.atomic import atomic_write
from xlm_lightning.errors import UserError

ZSTD_LEVEL = 3


@dataclass(frozen=True)
class HoldOut:
    """How many of the last lines are kept from training (or some more: documents stay whole)."""

    valid_lines: int
    test_lines: int

    @property
    def splits(self) -> list[str]:
        """The splits there will be."""
        wanted = {"train": 1, "valid": self.valid_lines, "test": self.test_lines}
        return [split for split, lines in wanted.items() if lines]


def write_splits(
    documents: Iterable[Sequence[bytes]],
    files: dict[str, Path],
    hold_out: HoldOut,
    *,
    blank_lines: bool,
    source: str,
) -> None:
    """Write each split's documents (lists of lines) as Zstandard, a blank line between them if so.

    Only the last documents are in memory. Raises `UserError` naming `source` when nothing is left
    for training.
    """
    wanted = hold_out.valid_lines + hold_out.test_lines
    held: deque[Sequence[bytes]] = deque()
    held_lines = 0
    with ExitStack() as stack:
        writers = {split: stack.enter_context(_writer(path)) for split, path in files.items()}
        trained = False
        for document in documents:
            held.append(document)
            held_lines += len(document)
            while held and held_lines - len(held[0]) >= wanted:
                oldest = held.popleft()
                held_lines -= len(oldest)
                _write(writers["train"], oldest, blank_lines=blank_lines)
                trained = True
        if not trained:
            raise UserError(
                f"{source} has only {held_lines} lines: holding out {wanted} for valid and test "
                "leaves nothing to train on; hold out fewer"
            )
        for split, document in _held_out(held, hold_out):
            _write(writers[split], document, blank_lines=blank_lines)


def _held_out(
    held: deque[Sequence[bytes]], hold_out: HoldOut
) -> Iterable[tuple[str, Sequence[bytes]]]:
    """The last documents are test, those before them valid; both in their order."""
    first_test, test_lines = len(held), 0
    while first_test and test_lines < hold_out.test_lines:
        first_test -= 1
        test_lines += len(held[first_test])
    for index, document in enumerate(held):
        yield ("valid" if index < first_test else "test"), document


@contextmanager
def _writer(path: Path) -> Iterator[IO[bytes]]:
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    with atomic_write(path) as file, compressor.stream_writer(file, closefd=False) as writer:
        yield writer


def _write(writer: IO[bytes], document: Sequence[bytes], *, blank_lines: bool) -> None:
    end = b"\n\n" if blank_lines else b"\n"
    writer.write(b"\n".join(document) + end)
