"""From the grammar's words to a line of text and back; both ways are functions of the words alone.

The words of the grammar are Moses tokens in lower case where the language has them so. Writing a
line sets the capital at the start of the line and after an opening quotation mark, turns the
English `a` before a vowel into `an`, and closes up punctuation. Only straight quotation marks are
used, and no sentence ends in a dot followed by one, since Moses' punctuation rules would rewrite
those: the tokens of a written line are exactly the words that were written, in both modes (tested),
so no two lines share their tokens.
"""

import re
from collections.abc import Sequence

from data_prep.sample.grammar import Language

_VOWEL_SOUND = re.compile(r"(?!uni|eu|us)[aeiou]", re.IGNORECASE)
_CLOSED_UP = re.compile(r" ([.,?]|'(?:s|clock)\b)")
_QUOTED = re.compile(r'" ([^"]*) "')
_PIECE = re.compile(r"""\d+[.,]\d+|'\w+|["?,]|\.$|[^\s"?,']+?(?=\.$|[\s"?,']|$)""")


def written_words(words: Sequence[str], language: Language) -> list[str]:
    """The words as Moses tokens: capitals and `an` in place."""
    tokens = list(words)
    opening = True
    for position, word in enumerate(tokens):
        starts = position == 0 or (tokens[position - 1] == '"' and not opening)
        if word == '"':
            opening = not opening
        elif language == "en" and word == "a" and _VOWEL_SOUND.match(words[position + 1]):
            tokens[position] = "An" if starts else "an"
        elif starts:
            tokens[position] = word[0].upper() + word[1:]
    return tokens


def write_line(words: Sequence[str], language: Language) -> str:
    """The line of text."""
    return close_up(written_words(words, language))


def close_up(tokens: Sequence[str]) -> str:
    """Moses tokens as running text."""
    line = _CLOSED_UP.sub(r"\1", " ".join(tokens))
    return _QUOTED.sub(r'"\1"', line) if '"' in line else line


def read_words(tokens: Sequence[str], language: Language) -> list[tuple[str, ...]]:
    """For each token the words it may stand for (none where the spelling is wrong)."""
    readings: list[tuple[str, ...]] = []
    inside_quotation = False
    for position, token in enumerate(tokens):
        starts = position == 0 or (tokens[position - 1] == '"' and inside_quotation)
        if token == '"':
            inside_quotation = not inside_quotation
            readings.append(('"',))
            continue
        words = {token, token[0].lower() + token[1:]} if starts else {token}
        if starts and token[0].islower():
            words = set()
        if language == "en":
            words = {_article(word, tokens[position + 1 : position + 2]) for word in words}
        readings.append(tuple(sorted(words - {""})))
    return readings


def _article(word: str, following: Sequence[str]) -> str:
    if word not in ("a", "an"):
        return word
    before_vowel = bool(following) and bool(_VOWEL_SOUND.match(following[0]))
    return "a" if before_vowel == (word == "an") else ""


def line_tokens(line: str) -> list[str]:
    """The tokens of a line, closed up or not, as Moses finds them in what the grammar writes.

    Where characters are left over the line is none of the grammar's, and is cut at its blanks.
    """
    tokens = _PIECE.findall(line)
    return tokens if "".join(tokens) == "".join(line.split()) else line.split()
