"""One piece of raw text in, one shard of token ids out: a pure function, run in a worker process.

The record beside the work (`.work/SPLIT/LANG-00000.json`) is written after the shard. It holds a
hash of the piece and of everything that decides its ids, so a later run takes a shard over only
when it would write the same bytes, whoever stopped the run before and why.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.inputs import pair_of, rules_of
from data_prep.lines import PieceText, TextPolicy, read_lines
from data_prep.reading import Piece, sha256_of
from xlm_lightning.atomic import atomic_write, write_json
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
    work: Path
    split: str
    language: str
    index: int
    piece: Piece
    encoding: Encoding

    @property
    def stem(self) -> str:
        return f"{self.split}/{self.language}-{self.index:05}"

    @property
    def is_parallel(self) -> bool:
        """Whether line k of it belongs to line k of another shard."""
        return bool(pair_of(self.language))

    @property
    def in_blocks(self) -> bool:
        """Whether it is cut into whole blocks, the tail dropped."""
        return self.split == "train" and not self.is_parallel


@dataclass(frozen=True)
class ShardResult:
    """What the caller keeps of a finished shard."""

    split: str
    language: str
    shard: Shard
    anomalies: dict[str, int]
    has_words: bool
    reused: bool
    stored_bytes: int


def write_shard(task: ShardTask) -> ShardResult:
    """Encode the piece and write its shard, unless an earlier run has."""
    key = hashlib.sha256(f"{task.encoding.key} {task.piece.sha256()}".encode()).hexdigest()
    record = task.work / f"{task.stem}.json"
    finished = _finished(record, key, task)
    if finished is not None:
        return finished
    text = read_lines(task.piece, task.encoding.policy)
    encoded = _pipeline(rules_of(task.language), task.encoding).encode_lines(text.lines)
    ids = encoded.ids
    kept = len(ids) - len(ids) % BLOCK_LENGTH if task.in_blocks else len(ids)
    if task.is_parallel:
        ends = encoded.line_ends.astype("<u8")
    else:
        ends = _document_ends(text, encoded.line_ends, kept)
    shard = _write(task, ids[:kept], ends, text, encoded.unknown, len(ids) - kept)
    has_words = len(ids) > len(text.lines)  # a line without words is a lone </s>
    write_json(
        record,
        {
            "key": key,
            "shard": asdict(shard),
            "anomalies": text.anomalies,
            "has_words": has_words,
        },
    )
    return _result(task, shard, text.anomalies, has_words, reused=False)


def _finished(record: Path, key: str, task: ShardTask) -> ShardResult | None:
    """The result of an earlier run, if it is of the same input and its files are whole."""
    if not record.is_file():
        return None
    known: dict[str, Any] = json.loads(record.read_bytes())
    if known["key"] != key:
        return None
    shard = Shard(**known["shard"])
    for path, digest in (
        (task.out / shard.name, shard.sha256),
        (task.out / shard.docs_name, shard.docs_sha256),
    ):
        if not path.is_file() or sha256_of(path) != digest:
            return None
    return _result(task, shard, known["anomalies"], known["has_words"], reused=True)


def _result(
    task: ShardTask, shard: Shard, anomalies: dict[str, int], has_words: bool, *, reused: bool
) -> ShardResult:
    return ShardResult(
        task.split,
        task.language,
        shard,
        anomalies,
        has_words,
        reused,
        task.piece.stored_bytes,
    )


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
