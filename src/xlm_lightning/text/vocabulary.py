"""Token ids: 14 special words, then the lines of the vocabulary file in their order.

The file is the one of fastBPE's getvocab, `token count` a line, counts falling. Which lines are
skipped on reading follows the original's `Dictionary.read_vocab`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xlm_lightning.atomic import write_text
from xlm_lightning.errors import UserError
from xlm_lightning.text.files import read_lines

EOS, PAD, UNK, MASK = 1, 2, 3, 5
SPECIALS: tuple[str, ...] = (
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    *(f"<special{i}>" for i in range(10)),
)
FIRST_WORD_ID = len(SPECIALS)
MAX_SIZE = 65_536  # ids are stored as uint16


class Vocabulary:
    """The words of a model with their ids and counts; special words have the count 0."""

    def __init__(self, words: Sequence[str], counts: Sequence[int]) -> None:
        """Take `words` (without the special ones) in the order of their ids."""
        if FIRST_WORD_ID + len(words) > MAX_SIZE:
            raise UserError(
                f"the vocabulary has {FIRST_WORD_ID + len(words):,} ids; at most {MAX_SIZE:,} fit "
                f"into the shards' 16 bits. Learn fewer merges (bpe.merges)."
            )
        self.words: tuple[str, ...] = tuple(words)
        self.counts: tuple[int, ...] = tuple(counts)
        self._tokens = SPECIALS + self.words
        self._ids = {token: index for index, token in enumerate(self._tokens)}

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a vocabulary file; anything else is a `UserError` naming file and line."""
        words: dict[str, int] = {}
        codes_lines = 0
        for number, line in enumerate(read_lines(path, "vocabulary"), start=1):
            fields = line.split()
            codes_lines += len(fields) == 3 and fields[2].isdigit()
            if "\u2028" in line or len(fields) != 2 or fields[0] in words or fields[0] in SPECIALS:
                continue
            words[fields[0]] = _count(path, number, fields[1])
        if codes_lines > len(words):
            raise UserError(
                f"{path}: this is a BPE codes file (three fields a line), not a vocabulary "
                f"(`token count`). Are codes and vocabulary swapped?"
            )
        if not words:
            raise UserError(f"{path}: no vocabulary line (`token count`) in this file.")
        counts = tuple(words.values())
        _check_falling(path, tuple(words), counts)
        if FIRST_WORD_ID + len(words) > MAX_SIZE:
            raise UserError(
                f"{path}: {FIRST_WORD_ID + len(words):,} ids; at most {MAX_SIZE:,} fit into the "
                f"shards' 16 bits."
            )
        return cls(tuple(words), counts)

    @classmethod
    def from_counts(cls, counts: Mapping[str, int]) -> Vocabulary:
        """Order by count descending, ties by UTF-8 bytes ascending (fastBPE's getvocab)."""
        kept = [(word, count) for word, count in counts.items() if word not in SPECIALS]
        # Code points sort as their UTF-8 bytes do.
        kept.sort(key=lambda entry: (-entry[1], entry[0]))
        return cls([word for word, _ in kept], [count for _, count in kept])

    def save(self, path: Path) -> None:
        """Write `token count` lines, atomically."""
        lines = zip(self.words, self.counts, strict=True)
        write_text(path, "".join(f"{word} {count}\n" for word, count in lines))

    def __len__(self) -> int:
        """Count all ids, special words included."""
        return len(self._tokens)

    def id(self, token: str) -> int:
        """Return the id of `token`, or that of `<unk>`."""
        return self._ids.get(token, UNK)

    def token(self, token_id: int) -> str:
        """Return the word or special word of `token_id`."""
        return self._tokens[token_id]


def _count(path: Path, number: int, field: str) -> int:
    if not (field.isascii() and field.isdigit()):
        raise UserError(
            f"{path}, line {number}: the second field must be a count, not {field[:40]!r}. "
            f"A vocabulary has `token count` on each line."
        )
    return int(field)


def _check_falling(path: Path, words: Sequence[str], counts: Sequence[int]) -> None:
    for index in range(1, len(counts)):
        if counts[index] > counts[index - 1]:
            raise UserError(
                f"{path}: the count of {words[index]!r} ({counts[index]}) is above that of the "
                f"word before ({counts[index - 1]}); counts must not increase. Sort the file."
            )
