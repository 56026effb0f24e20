"""What becomes of text that is not as it should be."""

from __future__ import annotations

import re
import time
from collections import deque
from pathlib import Path

import pytest

from data_prep.lines import PieceText, TextPolicy, read_lines
from data_prep.reading import read_pieces
from xlm_lightning.errors import UserError


@pytest.fixture
def lines_of(tmp_path: Path):
    def read(data: bytes, invalid_utf8: str = "error", max_word_length: int = 20) -> PieceText:
        path = tmp_path / "text.txt"
        path.write_bytes(data)
        (piece,) = read_pieces([path], 10**9)
        return read_lines(piece.joined(), TextPolicy(invalid_utf8, max_word_length))

    return read


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\r\r\nc\r", ["a\rb\r", "c\r"]),
        (b"\n\n", ["", ""]),
        ("a\u2028b\x0bc\x0cd\u0085e\n".encode(), ["a\u2028b\x0bc\x0cd\u0085e"]),
        ("\ufeffa\n".encode(), ["a"]),
    ],
)
def test_lines_are_those_of_wc(lines_of, data, expected):
    text = lines_of(data)
    assert text.lines == expected
    assert len(text.lines) == data.count(b"\n") + (not data.endswith(b"\n"))


def test_raw_bytes_are_those_of_the_lines(lines_of):
    assert lines_of("größe\r\nb\n".encode()).raw_bytes == len("größe\nb\n".encode())


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (b"a\nb\n", [2]),
        (b"a\n\nb\nc\n\n", [2, 5]),
        (b"\n\na\n\n \n\nb", [6, 7]),
        (b"\n\n", [2]),
    ],
)
def test_documents_end_after_blank_lines(lines_of, data, ends):
    assert lines_of(data).document_ends == ends


def test_a_file_ends_a_document(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"x\ny\n")
    (piece,) = read_pieces(paths, 1000)
    assert read_lines(piece.joined(), TextPolicy("error", 9)).document_ends == [2, 4]


def test_invalid_utf8_is_placed(lines_of):
    with pytest.raises(UserError, match=r"text.txt line 3, byte 10: invalid UTF-8;") as error:
        lines_of(b"abc\r\ndef\nx\xffy\n")
    assert "invalid_utf8=replace" in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_the_byte_order_mark_counts_in_the_place(lines_of):
    with pytest.raises(UserError, match="line 2, byte 6:"):
        lines_of(b"\xef\xbb\xbfa\r\n\xff")


@pytest.mark.parametrize("place", [0, 1000, 4999])
def test_invalid_utf8_is_placed_in_later_pieces_too(tmp_path, place):
    rows = [b"row number %d\r\n" % i for i in range(5000)]
    rows[place] = b"row \xc3\r\n"
    path = tmp_path / "text.txt"
    path.write_bytes(b"".join(rows))
    offset = len(b"".join(rows[:place])) + 4
    pieces = read_pieces([path], 10_000)
    with pytest.raises(UserError, match=f"line {place + 1}, byte {offset}:"):
        deque((read_lines(piece.joined(), TextPolicy("error", 20)) for piece in pieces), maxlen=0)


def test_utf16_is_guessed(lines_of):
    with pytest.raises(UserError, match=r"line 1, byte 0: invalid UTF-8 \(UTF-16\?\)"):
        lines_of("hello\n".encode("utf-16"))


@pytest.mark.parametrize(
    ("policy", "expected"), [("replace", ["a", "x\ufffdy", "b"]), ("skip", ["a", "b"])]
)
@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_invalid_utf8_is_replaced_or_skipped_and_counted(lines_of, policy, expected, bad):
    text = lines_of(b"a\nx" + bad + b"y\nb\n", policy)
    assert [re.sub("\ufffd+", "\ufffd", line) for line in text.lines] == expected
    assert text.anomalies["invalid_utf8_lines"] == 1


def test_lone_surrogates_are_invalid(lines_of):
    with pytest.raises(UserError, match="line 1, byte 0"):
        lines_of("\ud800".encode("utf-8", "surrogatepass"))


def test_odd_characters_are_counted(lines_of):
    data = "\0a\0\n\x01\x7f\u0085\ttab\r\nlone\rcr <s> </s> <special3> <specialx>\n"
    assert lines_of(data.encode()).anomalies == {
        "invalid_utf8_lines": 0,
        "nul_characters": 2,
        "control_characters": 4,
        "special_words": 3,
        "overlong_words": 0,
        "long_lines": 0,
    }


def test_overlong_words_are_left_out_and_counted(lines_of):
    long = "x" * 21
    text = lines_of(f"a {long} b {'y' * 20}\n{long}\nshort\n".encode())
    assert text.lines == [f"a b {'y' * 20}", "", "short"]
    assert text.anomalies["overlong_words"] == 2


def test_very_long_lines_and_words_take_linear_time(lines_of):
    def seconds(data: bytes) -> float:
        start = time.process_time()
        lines_of(data)
        return time.process_time() - start

    for unit in (b"word ", b"w"):
        small, large = seconds(unit * 200_000), seconds(unit * 2_000_000)
        assert large < 40 * max(small, 0.005)
    assert lines_of(b"word " * 200_001).anomalies["long_lines"] == 1
