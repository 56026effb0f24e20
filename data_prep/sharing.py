"""The pieces of a text, shared out to all processes that prepare the same folder.

Every process reads the text from its beginning and works on the pieces that nobody else has
claimed. What a piece has become stands in a record in the folder they share, and all go on when
every record is there. Claims save work and do no more: the work on a piece is a pure function that
writes whole files, so a piece worked on twice is the same piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data_prep.claims import Claim, claim
from data_prep.pool import Workers
from data_prep.progress import Progress, note
from data_prep.reading import LoosePiece, Piece, read_pieces
from data_prep.workspace import Session

Task = TypeVar("Task")
Record = dict[str, Any]
SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Text:
    """The files of a language in a split."""

    split: str
    language: str
    paths: Sequence[Path]


@dataclass(frozen=True)
class Place:
    """A piece among those of its text, and where the record of the work on it goes."""

    split: str
    language: str
    index: int
    record: Path


@dataclass(frozen=True)
class Stage:
    """One kind of work, to be done on every piece of some texts."""

    session: Session
    folder: Path  # of the records
    texts: Sequence[Text]
    piece_bytes: int


def share_out(
    stage: Stage,
    make_task: Callable[[Place, Piece], Task],
    work: Callable[[Task], Path],
    pool: Workers,
    progress: Progress,
    hashes: dict[Path, str] | None = None,
) -> Iterator[tuple[Place, Record]]:
    """Yield the record of every piece, in the order of the text, whoever has worked on it.

    `work` runs in a worker process; it writes the record, when all else is written, and returns its
    path. A piece whose process ended before its work was done is taken over. `hashes` as in
    `read_pieces`.
    """
    missing = _Missing(stage.session, progress)
    claims: dict[Path, Claim] = {}

    def my_tasks() -> Iterator[Task]:
        for place, piece in _places(stage, hashes):
            if missing.expects(place, piece) and stage.session.load(place.record) is None:
                own = claim(_lock_of(place.record))
                if own is not None:
                    claims[place.record] = own
                    yield make_task(place, piece.joined())

    try:
        while True:
            for record in pool.as_completed(work, my_tasks()):
                claims.pop(record).release()
                yield from missing.found()
            yield from missing.found()
            missing.complete = True
            while missing.places and not missing.first_is_abandoned():
                time.sleep(SECONDS_BETWEEN_LOOKS)
                yield from missing.found()
            if not missing.places:
                return
            note("another process ended before its work was done; taking it over")
    finally:
        for own in claims.values():
            own.release()


class _Missing:
    """The pieces whose records have not been seen yet, in the order of the text."""

    def __init__(self, session: Session, progress: Progress) -> None:
        self.places: dict[Place, int] = {}  # stored bytes of the piece
        self.complete = False  # the text has been read to its end: there are no other pieces
        self._session = session
        self._progress = progress

    def expects(self, place: Place, piece: LoosePiece) -> bool:
        """Whether the record of a piece that was read is wanted."""
        if not self.complete:
            self.places[place] = piece.stored_bytes
        return place in self.places

    def found(self) -> Iterator[tuple[Place, Record]]:
        """Yield the records that are there by now, up to the first that is not."""
        while self.places:
            place = next(iter(self.places))
            record = self._session.load(place.record)
            if record is None:
                return
            self._progress.advance(self.places.pop(place), record["raw_bytes"])
            yield place, record

    def first_is_abandoned(self) -> bool:
        """Whether the first one has no record, and nobody who works on it."""
        record = next(iter(self.places)).record
        own = claim(_lock_of(record))
        if own is None:
            return False
        try:
            any(record.parent.iterdir())  # NFS may overlook a new file until its folder is listed
            return self._session.load(record) is None
        finally:
            own.release()


def _lock_of(record: Path) -> Path:
    return record.with_suffix(".lock")


def _places(stage: Stage, hashes: dict[Path, str] | None) -> Iterator[tuple[Place, LoosePiece]]:
    for text in stage.texts:
        for index, piece in enumerate(read_pieces(text.paths, stage.piece_bytes, hashes)):
            record = stage.folder / text.split / f"{text.language}-{index:05}.json"
            yield Place(text.split, text.language, index, record), piece
