"""Cut normalised lines into chunks whose tokens do not depend on their neighbours.

A chunk is what stands between two spaces. What its tokens need to know of the neighbourhood (is it
the first or the last of its line, does the next one begin with a lower-case letter or a digit) is
written into the chunk itself as a control character, which no normalised text holds. So equal
chunks have equal tokens, and each distinct one has to be tokenised once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from xlm_lightning.text.rules import LanguageRules

LINE_END = "\x01"  # a chunk of its own after each line
_FIRST = "\x02"  # before an apostrophe or comma that begins a line
_LAST = "\x03"  # after a dot or apostrophe that ends a line
_LOWER_NEXT = "\x04"  # after a dot before a lower-case letter
_DIGIT_NEXT = "\x05"  # after a dot before a digit
_INNER_SPACE = "\x06"  # in a chunk that is a whole line

_MULTI_DOT = re.compile(r"(\.{2,})[\x03-\x05]?")
_MULTI_DOT_MARK = re.compile(r"(?:DOT)+MULTI")
_DIGIT_AFTER_DOT = re.compile(r"\. (?=[0-9])")
_LINE_WITH_QUOTES_APART = re.compile("\n([^\n]*' '[^\n]*)(?=\n)")

Rule = Callable[[str], str]


class ChunkTokenizer:
    """Cut blocks into chunks and tokenise chunks with the Moses rules of one language."""

    def __init__(self, rules: LanguageRules) -> None:
        self._rules = rules
        lower = _character_class(rules.lower)
        self._lower_after_dot = re.compile(rf"\. (?=[{lower}])")
        alnum = _character_class(rules.alnum)
        self._symbol = re.compile(rf"([^{alnum}\s.'`,\-\x02-\x06])")
        self._separate_commas = _comma_rule(rules)
        self._separate_apostrophes = _apostrophe_rule(rules)
        self._apostrophes_look_around = rules.language in {"en", "fr", "it"}

    def split(self, block: str) -> list[str]:
        """Return the chunks of a normalised block (newlines at both ends), marked."""
        if self._apostrophes_look_around and "' '" in block:  # a rule uses up this space
            block = _LINE_WITH_QUOTES_APART.sub(_whole_line, block)
        block = block.replace(".\n", f".{_LAST}\n").replace("\n,", f"\n{_FIRST},")
        if self._apostrophes_look_around and "'" in block:
            block = block.replace("'\n", f"'{_LAST}\n").replace("\n'", f"\n{_FIRST}'")
        block = self._lower_after_dot.sub(f".{_LOWER_NEXT} ", block)
        block = _DIGIT_AFTER_DOT.sub(f".{_DIGIT_NEXT} ", block)
        return block.replace("\n", f" {LINE_END} ").split()[1:]

    def tokenize(self, chunks: Sequence[str]) -> list[str]:
        """Return the tokens of each chunk, with white space between them."""
        if not chunks:
            return []
        # A space on each side stands for the neighbour; the ends of a line have none.
        batch = " " + " \n ".join(chunks) + " "
        batch = batch.replace(" " + _FIRST, "").replace(_LAST + " ", _LAST)
        if _INNER_SPACE in batch:
            batch = batch.replace(_INNER_SPACE, " ")
        batch = " ".join(self._symbol.split(batch))  # a space on each side of a symbol
        if ".." in batch:
            batch = _MULTI_DOT.sub(_multi_dot_mark, batch)
        if "," in batch:
            batch = self._separate_commas(batch)
        if "'" in batch:
            batch = self._separate_apostrophes(batch)
        lines = [
            self._split_dots(line) if "." in line or _LAST in line else line
            for line in batch.split("\n")
        ]
        if "MULTI" in batch:
            lines = _MULTI_DOT_MARK.sub(_multi_dot, "\n".join(lines)).split("\n")
        return lines

    def _split_dots(self, line: str) -> str:
        """Split a word's final dot off, unless an abbreviation or a lower-case word asks for it."""
        if line.endswith(f".'{_LAST}"):
            line = line[:-3] + " . '"
        words = line.split()
        tokens: list[str] = []
        for index, word in enumerate(words):
            mark = word[-1] if word[-1] in "\x03\x04\x05" else ""
            word = word.removesuffix(mark)
            if len(word) > 1 and word[-1] == ".":
                follower = words[index + 1][0] if index + 1 < len(words) else mark
                if not self._keeps_dot(word[:-1], follower):
                    tokens += (word[:-1], ".")
                    continue
            tokens.append(word)
        return " ".join(tokens)

    def _keeps_dot(self, prefix: str, follower: str) -> bool:
        """Decide on `prefix.`; `follower` is the next token's first character, or a mark."""
        rules = self._rules
        if follower == _LAST and rules.mode == "moses":
            return False
        if "." in prefix and not rules.alpha.isdisjoint(prefix):
            return True
        if prefix in rules.prefixes or follower == _LOWER_NEXT or follower in rules.lower:
            return True
        is_digit = follower == _DIGIT_NEXT or ("0" <= follower <= "9")
        return is_digit and prefix in rules.numeric_prefixes


def _comma_rule(rules: LanguageRules) -> Rule:
    number = _character_class(rules.numbers)
    after_other = re.compile(rf"([^{number}\n]),")
    before_other = re.compile(rf",([^{number}\n])")
    at_end = re.compile(rf"([{number}]),$", re.MULTILINE)

    # Functions instead of templates: before Python 3.12 those cost 2 us a match.
    def separate(batch: str) -> str:
        batch = after_other.sub(lambda match: f"{match[1]} , ", batch)
        batch = before_other.sub(lambda match: f" , {match[1]}", batch)
        return at_end.sub(lambda match: f"{match[1]} , ", batch)

    return separate


def _apart(match: re.Match[str]) -> str:
    return f"{match[1]} ' {match[2]}"


def _with_next(match: re.Match[str]) -> str:
    return f"{match[1]} '{match[2]}"


def _with_previous(match: re.Match[str]) -> str:
    return f"{match[1]}' {match[2]}"


def _apostrophe_rule(rules: LanguageRules) -> Rule:
    if rules.language not in {"en", "fr", "it"}:
        return lambda batch: batch.replace("'", " ' ")
    alpha, number = _character_class(rules.alpha), _character_class(rules.numbers)
    other = f"[^{alpha}\n{_LAST}]"
    patterns = [
        (rf"({other})'({other})", _apart),
        (rf"({other})'([{alpha}])", _apart),
        (rf"([{alpha}])'({other})", _apart),
        (rf"([{alpha}])'([{alpha}])", _with_previous),
    ]
    if rules.language == "en":
        patterns[1] = (rf"([^{alpha}{number}\n{_LAST}])'([{alpha}])", _apart)
        patterns[3] = (rf"([{alpha}])'([{alpha}])", _with_next)
        patterns.append((rf"([{number}])'(s)", _with_next))
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in patterns]

    def separate(batch: str) -> str:
        for pattern, replacement in compiled:
            batch = pattern.sub(replacement, batch)
        return batch

    return separate


def _character_class(characters: frozenset[str]) -> str:
    """Write a set of letters or digits as ranges for the inside of `[...]`."""
    points = sorted(map(ord, characters))
    ranges: list[list[int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


def _whole_line(match: re.Match[str]) -> str:
    return "\n" + match[1].replace(" ", _INNER_SPACE)


def _multi_dot_mark(match: re.Match[str]) -> str:
    return " " + "DOT" * len(match[1]) + "MULTI "


def _multi_dot(match: re.Match[str]) -> str:
    return "." * ((len(match[0]) - len("MULTI")) // len("DOT"))
