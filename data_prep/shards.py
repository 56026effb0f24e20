"""One piece of raw text in, one shard of token ids out: a pure function, run in a worker process.

The record of the work (`.work/SPLIT/LANG-00000.json`) is written after the shard. It holds a hash
of the piece and of everything that decides its ids, so a later run takes a shard over only when it
would write the same bytes, whoever stopped the run before and why.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.inputs import pair_of, rules_of
from data_prep.lines import PieceText, TextPolicy, read_lines
from data_prep.reading import Piece, sha256_of
from data_prep.sharing import Place, Record
from data_prep.workspace import Session, read_record
from xlm_lightning.atomic import atomic_write
from xlm_lightning.manifest import BLOCK_LENGTH, Shard
from xlm_lightning.text.bpe import BytePairEncoder, read_codes
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.rules import Mode
from xlm_lightning.text.vocabulary import PAD, Vocabulary


@dataclass(frozen=True)
class Encoding:
    """All that decides which ids a text becomes."""

    mode: Mode
    lowercase_and_remove_accent: bool
    policy: TextPolicy
    codes: Path
    vocabulary: Path
    key: str  # hash of the settings, of both files' content and of the versions


@dataclass(frozen=True)
class ShardTask:
    """A piece, and where its shard goes."""

    out: Path
    session: Session
    place: Place
    piece: Piece
    encoding: Encoding

    @property
    def stem(self) -> str:
        return f"{self.place.split}/{self.place.language}-{self.place.index:05}"

    @property
    def is_parallel(self) -> bool:
        """Whether line k of it belongs to line k of another shard."""
        return bool(pair_of(self.place.language))

    @property
    def in_blocks(self) -> bool:
        """Whether it is cut into whole blocks, the tail dropped."""
        return self.place.split == "train" and not self.is_parallel


@dataclass(frozen=True)
class ShardResult:
    """What is known of a finished shard."""

    split: str
    language: str
    shard: Shard
    anomalies: dict[str, int]
    has_words: bool
    reused: bool  # made by an earlier run
    member: str  # of the session, who has made it or found it made

    @classmethod
    def of(cls, place: Place, record: Record) -> ShardResult:
        """From the record of the work."""
        shard = Shard(**record["shard"])
        facts = {name: record[name] for name in ("anomalies", "has_words", "reused", "member")}
        return cls(place.split, place.language, shard, **facts)


def write_shard(task: ShardTask) -> Path:
    """Encode the piece and write its shard, unless that was done before; the path of its record."""
    key = hashlib.sha256(f"{task.encoding.key} {task.piece.sha256()}".encode()).hexdigest()
    record = task.place.record
    known = read_record(record)
    if known is not None and known["key"] == key and _is_whole(task.out, Shard(**known["shard"])):
        if known["session"] != task.session.id:
            task.session.save(record, {**known, "reused": True})
        return record
    text = read_lines(task.piece, task.encoding.policy)
    encoded = _pipeline(rules_of(task.place.language), task.encoding).encode_lines(text.lines)
    ids = encoded.ids
    kept = len(ids) - len(ids) % BLOCK_LENGTH if task.in_blocks else len(ids)
    if task.is_parallel:
        ends = encoded.line_ends.astype("<u8")
    else:
        ends = _document_ends(text, encoded.line_ends, kept)
    shard = _write(task, ids[:kept], ends, text, encoded.unknown, len(ids) - kept)
    task.session.save(
        record,
        {
            "key": key,
            "raw_bytes": shard.raw_bytes,
            "shard": asdict(shard),
            "anomalies": text.anomalies,
            "has_words": len(ids) > len(text.lines),  # a line without words is a lone </s>
            "reused": False,
        },
    )
    return record


def _is_whole(out: Path, shard: Shard) -> bool:
    """Whether the files of a shard are there, every byte of them."""
    files = ((shard.name, shard.sha256), (shard.docs_name, shard.docs_sha256))
    return all((out / name).is_file() and sha256_of(out / name) == digest for name, digest in files)


@lru_cache(maxsize=1)  # pieces come language by language, and the word cache of each is large
def _pipeline(language: str, encoding: Encoding) -> TextPipeline:
    return TextPipeline(
        language,
        mode=encoding.mode,
        lowercase_and_remove_accent=encoding.lowercase_and_remove_accent,
        encoder=BytePairEncoder(read_codes(encoding.codes)),
        vocabulary=Vocabulary.load(encoding.vocabulary),
        max_word_length=encoding.policy.max_word_length,
    )


def _document_ends(
    text: PieceText, line_ends: npt.NDArray[np.int64], kept: int
) -> npt.NDArray[np.uint64]:
    """End offset in tokens of each document, cut where the shard is: the last one is its length."""
    ends = line_ends[np.asarray(text.document_ends, np.int64) - 1]
    return np.unique(np.minimum(ends, kept)).astype("<u8")


def _write(
    task: ShardTask,
    ids: npt.NDArray[np.uint16],
    document_ends: npt.NDArray[np.uint64],
    text: PieceText,
    unknown: int,
    dropped_tail: int,
) -> Shard:
    padding = -len(ids) % BLOCK_LENGTH  # none where it is whole blocks already
    data = np.concatenate([ids, np.full(padding, PAD, np.uint16)]).astype("<u2").tobytes()
    offsets = io.BytesIO()
    np.save(offsets, document_ends, allow_pickle=False)
    name = f"{task.stem}.bin"
    with atomic_write(task.out / name) as file:
        file.write(data)
    with atomic_write(task.out / f"{task.stem}.docs.npy") as file:
        file.write(offsets.getvalue())
    return Shard(
        name=name,
        bytes=len(data),
        tokens=len(ids),
        lines=len(text.lines),
        documents=len(document_ends),
        unknown=unknown,
        dropped_tail=dropped_tail,
        raw_bytes=text.raw_bytes,
        sha256=hashlib.sha256(data).hexdigest(),
        docs_sha256=hashlib.sha256(offsets.getvalue()).hexdigest(),
    )
