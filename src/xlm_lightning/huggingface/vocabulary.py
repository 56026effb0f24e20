"""The same words and merges in fastBPE's and in transformers' files.

fastBPE marks a piece that goes on (`hel@@ lo`), transformers one that ends a word (`hel lo</w>`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from xlm_lightning.errors import UserError
from xlm_lightning.text.bpe import CONTINUED, END_OF_WORD, Code
from xlm_lightning.text.files import read_lines
from xlm_lightning.text.vocabulary import FIRST_WORD_ID, SPECIALS, Vocabulary


def to_vocab_json(vocabulary: Vocabulary) -> dict[str, int]:
    """Token -> id as transformers writes it."""
    tokens = [*SPECIALS, *map(_to_transformers, vocabulary.words)]
    ids = {token: index for index, token in enumerate(tokens)}
    if len(ids) < len(tokens):
        doubled = next(token for index, token in enumerate(tokens) if ids[token] != index)
        raise UserError(
            f"the vocabulary cannot be written for transformers: {doubled!r} would stand twice"
        )
    return ids


def read_vocab_json(path: Path) -> Vocabulary:
    """Read transformers' `vocab.json`; its words have no counts, so these are 0."""
    try:
        ids = json.loads("\n".join(read_lines(path, "vocabulary")))
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(ids, dict) or sorted(map(str, ids.values())) != sorted(
        map(str, range(len(ids)))
    ):
        raise UserError(f"{path}: must map tokens to the ids 0, 1, 2, ... without a gap")
    tokens = sorted(ids, key=ids.__getitem__)
    for index, special in enumerate(SPECIALS):
        if index >= len(tokens) or tokens[index] != special:
            raise UserError(f"{path}: id {index} must be {special}, as in all XLM vocabularies")
    words = [_to_fastbpe(token) for token in tokens[FIRST_WORD_ID:]]
    return Vocabulary(words, [0] * len(words))


def merges_text(codes: Sequence[Code]) -> str:
    """Content of `merges.txt`: the codes file as it is; it must end with a newline."""
    return "".join(f"{left} {right} {count}\n" for left, right, count in codes)


def read_merges(path: Path) -> list[Code]:
    """Read `merges.txt`, where counts may be missing; of a pair that stands twice the last counts,
    as in transformers."""
    ranks: dict[tuple[str, str], tuple[int, int]] = {}
    for number, line in enumerate(read_lines(path, "merges"), start=1):
        fields = line.split()
        if len(fields) < 2:
            raise UserError(f"{path}, line {number}: {line[:40]!r} is not a merge (`left right`)")
        count = int(fields[2]) if len(fields) > 2 and fields[2].isdecimal() else 0
        ranks[fields[0], fields[1]] = number, count
    in_order = sorted(ranks.items(), key=lambda entry: entry[1][0])
    return [(left, right, count) for (left, right), (_, count) in in_order]


def _to_transformers(piece: str) -> str:
    """`hel@@` -> `hel`, `lo` -> `lo</w>`; only a trailing mark is one, and it marks something."""
    bare = piece.removesuffix(CONTINUED)
    return bare if bare and bare != piece else piece + END_OF_WORD


def _to_fastbpe(token: str) -> str:
    bare = token.removesuffix(END_OF_WORD)
    return bare if bare and bare != token else token + CONTINUED
