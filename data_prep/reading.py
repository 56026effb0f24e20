"""Text files, plain or compressed, as pieces of whole lines and bounded size.

A piece becomes one shard, so the cuts depend on the bytes of the text alone: not on the number of
workers, the compression or how much a decompressor hands out at once.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from xlm_lightning.errors import UserError

COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
UNREADABLE = (
    ".zip",
    ".7z",
    ".rar",
    ".tar",
    ".tgz",
    ".z",
    ".lz",
    ".lz4",
    ".lzma",
    ".br",
    ".parquet",
)
MAGIC = {b"\x1f\x8b": ".gz", b"\xfd7zXZ": ".xz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NOT_TEXT = bytes(range(33)) + b"\x7f" + BYTE_ORDER_MARK
HEAD_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 26  # a longer "line" is no text with a sentence a line; it would fill memory
ZSTD_INPUT_BYTES = 4096  # one RLE block of 4 bytes gives 128 kB: small steps bound the output


@dataclass(frozen=True)
class Segment:
    """Consecutive whole lines of one file; only the last line of a file may lack its newline."""

    path: str
    first_line: int  # counted from 1
    offset: int  # of the first byte in the uncompressed file
    data: bytes
    ends_file: bool


@dataclass(frozen=True)
class Piece:
    """The raw text of one shard."""

    segments: tuple[Segment, ...]  # one a file

    def sha256(self) -> str:
        """Hash of the text and of where its files end (a file's end closes a document)."""
        digest = hashlib.sha256()
        for segment in self.segments:
            digest.update(b"%d %d\n" % (len(segment.data), segment.ends_file))
            digest.update(segment.data)
        return digest.hexdigest()


@dataclass(frozen=True)
class LoosePiece:
    """A piece as it was read, in many segments; joining them copies every byte."""

    segments: Sequence[Segment]
    stored_bytes: int  # read from the (compressed) files since the piece before, for progress

    def joined(self) -> Piece:
        return Piece(_joined(self.segments))


class HashedFile(io.RawIOBase):
    """A file on disk that counts and hashes the bytes read from it, compressed as they are."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._digest = hashlib.sha256()
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = self._file.readinto(buffer)
        self._digest.update(memoryview(buffer)[:count])
        self.bytes_read += count
        return count

    def finish(self) -> str:
        """Read what the decompressor left over, and return the hash of the whole file."""
        while self.read(CHUNK_BYTES):
            pass
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()


class _ZstdFile(io.RawIOBase):
    """Zstandard frames as a file; unlike zstandard's own reader it notices a truncated end."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._between_frames = True
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            data = self._frame.unused_data if self._frame.eof else b""
            data = data or self._source.read(ZSTD_INPUT_BYTES)
            if not data:
                if not (self._between_frames or self._frame.eof):
                    raise EOFError("the last frame is incomplete")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(data))
            self._between_frames = False
        count = min(len(buffer), len(self._ready))
        memoryview(buffer)[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def sha256_of(path: Path) -> str:
    """Hash of a file as it is stored."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_readable(path: Path, key: str) -> None:
    """Raise `UserError` unless `path` is a regular file that begins like text we can read."""
    if path.is_dir():
        raise UserError(f"{key}={path} is a folder; name the text file in it")
    if not path.exists():
        raise UserError(f"{key}={path} does not exist")
    if not path.is_file():
        raise UserError(f"{key}={path} is no regular file (it is read twice); save it to a file")
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if any(suffix in UNREADABLE for suffix in suffixes):
        raise UserError(
            f"{key}={path} is packed in a way that is not read here; {_readable_kinds()}"
        )
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except PermissionError as error:
        raise UserError(f"{key}={path} cannot be read: {error.strerror}") from error
    if not start:
        raise UserError(f"{key}={path} is empty")
    if path.suffix.lower() not in COMPRESSED:
        for magic, suffix in MAGIC.items():
            if start.startswith(magic):
                raise UserError(f"{key}={path} is compressed; rename it to {path.name}{suffix}")
    with closing(HashedFile(path)) as source, naming_damage(path):
        head = open_text(path, source).read(HEAD_BYTES)
    if len(head) < HEAD_BYTES and not head.strip(NOT_TEXT):
        raise UserError(f"{key}={path} holds no words")


def open_text(path: Path, source: HashedFile) -> IO[bytes]:
    """The uncompressed bytes of `source`, whose compression the name of `path` tells."""
    buffered = io.BufferedReader(source, CHUNK_BYTES)
    match path.suffix.lower():
        case ".gz":
            return gzip.GzipFile(fileobj=buffered)  # type: ignore[return-value]
        case ".xz":
            return lzma.LZMAFile(buffered)
        case ".bz2":
            return bz2.BZ2File(buffered)
        case ".zst":
            return io.BufferedReader(_ZstdFile(buffered), CHUNK_BYTES)
        case _:
            return buffered


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn what the decompressors raise about bad data into a `UserError` that names the file."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise UserError(_damaged(path, error)) from error
    except OSError as error:
        if error.errno is not None:  # a real input/output error, not a complaint about the data
            raise
        raise UserError(_damaged(path, error)) from error


def read_pieces(
    paths: Sequence[Path], piece_bytes: int, hashes: dict[Path, str] | None = None
) -> Iterator[LoosePiece]:
    """Cut the files, one after the other, into pieces of about `piece_bytes` of raw text.

    A remainder of less than half a piece joins the piece before it: no tiny shard at the end.
    `hashes` receives the sha256 of each file as stored, once it was read to its end.
    """
    held: list[Segment] = []  # a full piece that waits to see whether enough text follows
    group: list[Segment] = []
    size = held_stored = group_stored = 0
    chunk_bytes = min(CHUNK_BYTES, max(64, piece_bytes // 8))
    for segment, stored in _segments(paths, chunk_bytes, hashes):
        group.append(segment)
        size += len(segment.data)
        group_stored += stored
        if held and 2 * size >= piece_bytes:
            yield LoosePiece(held, held_stored)
            held, held_stored = [], 0
        if size >= piece_bytes:
            held, held_stored = group, group_stored
            group, group_stored, size = [], 0, 0
    if held or group:
        yield LoosePiece(held + group, held_stored + group_stored)


def _segments(
    paths: Sequence[Path], chunk_bytes: int, hashes: dict[Path, str] | None
) -> Iterator[tuple[Segment, int]]:
    """Yield whole lines of about `chunk_bytes`, and the stored bytes read for them."""
    for path in paths:
        reported = 0
        with closing(HashedFile(path)) as source, naming_damage(path):
            text = open_text(path, source)
            for segment in _file_segments(path, text, chunk_bytes):
                yield segment, source.bytes_read - reported
                reported = source.bytes_read
            digest = source.finish()
        if hashes is not None:
            hashes[path] = digest


def _file_segments(path: Path, text: IO[bytes], chunk_bytes: int) -> Iterator[Segment]:
    line, offset = 1, 0
    pending: list[bytes] = []  # of a line whose end has not been read yet
    pending_bytes = 0
    chunk = text.read(chunk_bytes)
    if chunk.startswith(BYTE_ORDER_MARK):
        chunk, offset = chunk[len(BYTE_ORDER_MARK) :], len(BYTE_ORDER_MARK)
    while chunk:
        following = text.read(chunk_bytes)
        cut = chunk.rfind(b"\n") + 1 if following else len(chunk)
        if cut:
            data = b"".join([*pending, chunk[:cut]])
            yield Segment(str(path), line, offset, data, ends_file=not following)
            line, offset = line + data.count(b"\n"), offset + len(data)
            pending, pending_bytes = [], 0
        pending.append(chunk[cut:])
        pending_bytes += len(chunk) - cut
        if pending_bytes > MAX_LINE_BYTES:
            raise UserError(
                f"{path} line {line} is longer than {MAX_LINE_BYTES >> 20} MB; "
                "the text needs one sentence (or paragraph) a line"
            )
        chunk = following


def _joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Join neighbours of the same file."""
    joined: list[list[Segment]] = []
    for segment in segments:
        if joined and not joined[-1][-1].ends_file:
            joined[-1].append(segment)
        else:
            joined.append([segment])
    return tuple(
        Segment(
            parts[0].path,
            parts[0].first_line,
            parts[0].offset,
            b"".join(part.data for part in parts),
            parts[-1].ends_file,
        )
        for parts in joined
    )


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is truncated or damaged ({error}); restore the file and run again"


def _readable_kinds() -> str:
    return f"give plain text or one of {', '.join(COMPRESSED)}"
