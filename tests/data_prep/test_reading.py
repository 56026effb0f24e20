"""Pieces: the same text in any packing gives the same cuts, and damage is named."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from data_prep.reading import MAX_LINE_BYTES, check_readable, read_pieces
from xlm_lightning.errors import UserError

TEXT = b"".join(b"line %d of a text that is cut\n" % i for i in range(5000))
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".txt": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def write(folder: Path, suffix: str, data: bytes = TEXT) -> Path:
    path = folder / f"text{suffix}"
    path.write_bytes(PACKERS[suffix](data))
    return path


def pieces_of(paths: list[Path], size: int = 20_000) -> list[list[bytes]]:
    pieces = (loose.joined() for loose in read_pieces(paths, size))
    return [[segment.data for segment in piece.segments] for piece in pieces]


@pytest.mark.parametrize("suffix", PACKERS)
def test_cuts_depend_on_the_text_alone(tmp_path, suffix):
    pieces = pieces_of([write(tmp_path, suffix)])
    assert pieces == pieces_of([write(tmp_path, ".txt")])
    assert b"".join(data for piece in pieces for data in piece) == TEXT
    assert all(piece[-1].endswith(b"\n") for piece in pieces)
    assert all(10_000 <= len(piece[0]) <= 35_000 for piece in pieces)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_files_packed_in_several_parts_are_read_whole(tmp_path, suffix):
    pack = PACKERS[suffix]
    path = tmp_path / f"text{suffix}"
    path.write_bytes(pack(TEXT[:1000]) + pack(TEXT[1000:]))
    assert b"".join(data for piece in pieces_of([path]) for data in piece) == TEXT


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_damaged_files_are_named(tmp_path, suffix, damage):
    path = write(tmp_path, suffix)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flip":
        data[len(data) // 2] ^= 0x10
    else:
        data = bytearray(TEXT)
    path.write_bytes(data)
    if suffix == ".zst" and damage == "flip":
        # a Zstandard frame may come without a checksum: then only a broken structure shows
        path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)[:-1] + b"\0")
    with pytest.raises(UserError, match=f"text{suffix} is truncated or damaged"):
        pieces_of([path])


def test_small_files_share_a_piece_and_keep_their_ends(tmp_path):
    paths = []
    for index, data in enumerate([b"a\nb\n", b"c", b"d\n"]):
        paths.append(tmp_path / f"{index}.txt")
        paths[-1].write_bytes(data)
    (piece,) = read_pieces(paths, 1000)
    assert [(s.data, s.first_line, s.ends_file) for s in piece.joined().segments] == [
        (b"a\nb\n", 1, True),
        (b"c", 1, True),
        (b"d\n", 1, True),
    ]
    assert piece.stored_bytes == 7


def test_line_numbers_and_offsets_are_those_of_the_file(tmp_path):
    pieces = read_pieces([write(tmp_path, ".gz")], 9_000)
    segments = [segment for piece in pieces for segment in piece.joined().segments]
    assert len(segments) > 10
    for segment in segments:
        assert TEXT[segment.offset :].startswith(segment.data)
        assert TEXT[: segment.offset].count(b"\n") == segment.first_line - 1


def test_the_byte_order_mark_is_stripped_at_the_start_only(tmp_path):
    mark = b"\xef\xbb\xbf"
    (piece,) = read_pieces([write(tmp_path, ".txt", mark + b"a\n" + mark + b"b\n")], 1000)
    assert piece.joined().segments[0].data == b"a\n" + mark + b"b\n"


def test_stored_bytes_add_up_to_the_files(tmp_path):
    path = write(tmp_path, ".gz")
    assert sum(piece.stored_bytes for piece in read_pieces([path], 9_000)) == path.stat().st_size


def test_memory_is_bounded_and_a_line_without_end_is_refused(tmp_path):
    path = tmp_path / "endless.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(MAX_LINE_BYTES // (1 << 20) * 3):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"endless.txt.gz line 1 is longer than 64 MB"):
            pieces_of([path])
        assert tracemalloc.get_traced_memory()[1] < 1.5 * MAX_LINE_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "is empty"),
        ("a.zip", b"PK", "packed in a way that is not read"),
        ("a.tar.gz", b"\x1f\x8b", "packed in a way that is not read"),
        ("a.txt", b"\x1f\x8b\x08", "rename it to a.txt.gz"),
        ("a.txt", b"\x28\xb5\x2f\xfd", "rename it to a.txt.zst"),
    ],
)
def test_what_cannot_be_text_is_refused_at_once(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        check_readable(tmp_path / name, "corpus.train.de")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"corpus.train.de=.* is a folder"):
        check_readable(tmp_path, "corpus.train.de")
    with pytest.raises(UserError, match="does not exist"):
        check_readable(tmp_path / "nowhere.txt", "corpus.train.de")
