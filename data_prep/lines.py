"""The bytes of a piece as lines of text: encoding, line ends, oversized words, documents.

A line ends at `\\n` and nowhere else, so the count of lines is that of `wc -l` plus an unterminated
last line, and parallel files stay parallel. A `\\r` before the `\\n` goes; any other is a control
character of the line. Everything here takes time linear in the text.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from data_prep.reading import Piece, Segment
from xlm_lightning.errors import UserError
from xlm_lightning.text.vocabulary import SPECIALS

InvalidUtf8 = Literal["error", "replace", "skip"]
ANOMALIES = (
    "invalid_utf8_lines",  # replaced or left out, as the policy says
    "nul_characters",
    "control_characters",  # other C0 and C1 controls but for the tab; the text mode removes them
    "special_words",  # <s>, <pad>, ... written in the text; the tokeniser takes them apart
    "overlong_words",  # left out
    "long_lines",  # kept
)
LONG_LINE = 1_000_000  # characters
_C0_CONTROLS = bytes(sorted(set(range(1, 32)) - {9, 10} | {127}))
_C1_CONTROL = re.compile(rb"\xc2[\x80-\x9f]")
_SPECIAL_WORD = re.compile(b"|".join(re.escape(word.encode()) for word in SPECIALS))


@dataclass(frozen=True)
class TextPolicy:
    """What happens to text that is not as it should be."""

    invalid_utf8: InvalidUtf8  # refuse the file, put U+FFFD, or leave the line out
    max_word_length: int  # characters between white space; a longer "word" is left out


@dataclass(frozen=True)
class PieceText:
    """The lines of a piece and what was noticed on the way."""

    lines: list[str]
    document_ends: list[int]  # index after the last line of each document
    raw_bytes: int  # of these lines as UTF-8, newlines included
    anomalies: dict[str, int]


def read_lines(piece: Piece, policy: TextPolicy) -> PieceText:
    """Decode a piece. Raises `UserError` naming file, line and offset of invalid UTF-8."""
    lines: list[str] = []
    document_ends: list[int] = []
    anomalies: Counter[str] = Counter(dict.fromkeys(ANOMALIES, 0))
    raw_bytes = 0
    for segment in piece.segments:
        data = segment.data.replace(b"\r\n", b"\n")
        _count_characters(data, anomalies)
        texts = _decode(data, segment, policy.invalid_utf8, anomalies)
        raw_bytes += len(data)
        _leave_out_overlong_words(texts, policy.max_word_length, anomalies)
        document_ends.extend(len(lines) + end for end in _document_ends(texts))
        lines.extend(texts)
    return PieceText(lines, document_ends, raw_bytes, dict(anomalies))


def _count_characters(data: bytes, anomalies: Counter[str]) -> None:
    anomalies["nul_characters"] += data.count(b"\0")
    anomalies["control_characters"] += len(data) - len(data.translate(None, _C0_CONTROLS))
    if b"\xc2" in data:
        anomalies["control_characters"] += sum(1 for _ in _C1_CONTROL.finditer(data))
    anomalies["special_words"] += sum(1 for _ in _SPECIAL_WORD.finditer(data))


def _decode(
    data: bytes, segment: Segment, policy: InvalidUtf8, anomalies: Counter[str]
) -> list[str]:
    try:
        return _split(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        if policy == "error":
            raise UserError(_invalid_utf8(segment, error)) from error
    texts = []
    for line in data.removesuffix(b"\n").split(b"\n"):
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            anomalies["invalid_utf8_lines"] += 1
            if policy == "replace":
                texts.append(line.decode("utf-8", errors="replace"))
    return texts


def _split(text: str) -> list[str]:
    """Lines without their `\\n`; `splitlines` would also cut at U+2028, form feeds and others."""
    return text.removesuffix("\n").split("\n")


def _invalid_utf8(segment: Segment, error: UnicodeDecodeError) -> str:
    before = segment.data.replace(b"\r\n", b"\n")[: error.start]
    newlines = before.count(b"\n")
    # every line before it lost its \r, if it had one: find the place in the bytes of the file
    start_of_line = _offset_of_line(segment.data, newlines)
    offset = segment.offset + start_of_line + len(before) - (before.rfind(b"\n") + 1)
    hint = " (UTF-16?)" if segment.offset == 0 and segment.data[:1] in (b"\xff", b"\xfe") else ""
    return (
        f"{segment.path} line {segment.first_line + newlines}, byte {offset}: invalid UTF-8{hint}; "
        "convert the file, or set invalid_utf8=replace or skip"
    )


def _offset_of_line(data: bytes, newlines: int) -> int:
    start = 0
    for _ in range(newlines):
        start = data.index(b"\n", start) + 1
    return start


def _leave_out_overlong_words(
    texts: list[str], max_word_length: int, anomalies: Counter[str]
) -> None:
    for index, text in enumerate(texts):
        if len(text) <= max_word_length:
            continue
        anomalies["long_lines"] += len(text) > LONG_LINE
        words = text.split()
        kept = [word for word in words if len(word) <= max_word_length]
        if len(kept) < len(words):
            anomalies["overlong_words"] += len(words) - len(kept)
            texts[index] = " ".join(kept)


def _document_ends(texts: list[str]) -> list[int]:
    """A document ends after its blank lines, and at the end of the file or piece."""
    ends = []
    after_words = after_blank = False  # of the document that is open
    for index, text in enumerate(texts):
        if not text or text.isspace():
            after_blank = after_words
        else:
            if after_blank:
                ends.append(index)
            after_words, after_blank = True, False
    return [*ends, len(texts)] if texts else []
