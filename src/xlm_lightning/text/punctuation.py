"""Moses punctuation rules on a whole block of lines at once.

The order and the effect are those of replace-unicode-punctuation, normalize-punctuation and
remove-non-printing-char, one line at a time; here a block is lines joined by newlines. Therefore
no pattern may match across a newline: `[^\\S\\n]` stands for white space inside a line. Plain
replacements cost little even where they find nothing; patterns run only if a literal part of them
occurs in the block.
"""

from __future__ import annotations

import re
import unicodedata

from sacremoses import MosesPunctNormalizer

from xlm_lightning.text.rules import Mode

_Literals = tuple[tuple[str, str], ...]

_UNICODE_LITERALS: _Literals = tuple(
    (old, new) for old, new in MosesPunctNormalizer.REPLACE_UNICODE_PUNCTUATION if len(old) == 1
)
_ANY_UNICODE = re.compile("[" + "".join(old for old, _ in _UNICODE_LITERALS) + "。．]")
_FULL_STOP = re.compile(r"[。．][^\S\n]*")

_SPACE_BEFORE_MARK = re.compile(r"\) ([.!:?;,])")
_PERCENT = re.compile(r"(\d) %")
_QUOTE_THEN_COMMA = re.compile(r'"([,.]+)')
_DIGITS_APART = re.compile("(\\d)\u00a0(\\d)")
_AFTER_QUOTE = {  # what must follow `."` in the same line; perl's line still has its newline
    "sacremoses": re.compile(r'(?<=\.)"[^\S\n]*[^<\n]'),
    "moses": re.compile(r'(?<=\.)"[^\S\n]*[^<]'),
}
_LOW_QUOTES: _Literals = (("„", '"'), ("“", '"'), ("”", '"'), ("–", "-"), ("—", " - "))
_APOSTROPHES: _Literals = (("´", "'"), ("‘", "'"), ("‚", "'"), ("’", "'"))
_NO_BREAK_SPACE: _Literals = (
    ("\u00a0%", "%"),
    ("nº\u00a0", "nº "),
    ("\u00a0:", ":"),
    ("\u00a0ºC", " ºC"),
    ("\u00a0cm", " cm"),
    ("\u00a0?", "?"),
    ("\u00a0!", "!"),
    ("\u00a0;", ";"),
    (",\u00a0", ", "),
)


class PunctuationNormalizer:
    """Normalised lines: only plain single spaces as white space, no control characters."""

    def __init__(self, language: str, mode: Mode) -> None:
        self._language = language
        self._mode = mode
        self._decimal_mark = "," if language in {"de", "es", "cz", "cs", "fr"} else "."
        if language == "en":
            self._quote_rule = "english"
        elif mode == "moses":
            self._quote_rule = "none" if language in {"cs", "cz"} else "german"
        else:  # sacremoses knows only these three
            self._quote_rule = "german" if language in {"de", "es", "fr"} else "none"
        self._guillemets = _guillemets(mode)

    def __call__(self, block: str) -> str:
        """Normalise a block that begins and ends with a newline."""
        if not block.isascii() and _ANY_UNICODE.search(block):
            block = _replace(block, _UNICODE_LITERALS)
            if "。" in block or "．" in block:
                block = _FULL_STOP.sub(". ", block)
        block = self._spaces_and_quotes(block)
        if "\u00a0" in block:
            block = _single_spaces(_replace(block, _NO_BREAK_SPACE))
        block = self._quotes_and_commas(block)
        if "\u00a0" in block:
            block = _DIGITS_APART.sub(rf"\g<1>{self._decimal_mark}\g<2>", block)
        block = self._clean(block)
        return _single_spaces(block).replace(" \n", "\n").replace("\n ", "\n")

    def _spaces_and_quotes(self, block: str) -> str:
        block = block.replace("\r", "").replace("(", " (").replace(")", ") ")
        block = _single_spaces(block)
        if ") " in block:
            block = _SPACE_BEFORE_MARK.sub(r")\1", block)
        block = block.replace("( ", "(").replace(" )", ")")
        if " %" in block:
            block = _PERCENT.sub(r"\1%", block)
        block = block.replace(" :", ":").replace(" ;", ";").replace("`", "'")
        block = block.replace("''", ' " ')
        if not block.isascii():
            block = _single_spaces(_replace(block, _LOW_QUOTES))
            block = _replace(block, _APOSTROPHES)
        block = _single_spaces(block).replace("''", '"')
        if not block.isascii():
            block = _replace(block.replace("…", "..."), self._guillemets)
        return _single_spaces(block)

    def _quotes_and_commas(self, block: str) -> str:
        if '"' not in block or self._quote_rule == "none":
            return block
        if self._quote_rule == "english":
            return _QUOTE_THEN_COMMA.sub(_comma_then_quote, block)
        block = block.replace(',"', '",')
        return _dots_after_quote(block, _AFTER_QUOTE[self._mode]) if '."' in block else block

    def _clean(self, block: str) -> str:
        """Remove control characters (perl: blank them) and make all white space plain."""
        if block.replace("\n", "").isprintable():
            return block
        odd = {character for character in set(block) if not character.isprintable()} - {"\n"}
        controls = {character for character in odd if unicodedata.category(character)[0] == "C"}
        for character in controls:
            block = block.replace(character, "" if self._mode == "sacremoses" else " ")
        for character in odd - controls:
            block = block.replace(character, " ")
        return block


def _guillemets(mode: Mode) -> _Literals:
    """French quotes with their no-break spaces; perl keeps a space outside, sacremoses does not."""
    outer = " " if mode == "moses" else ""
    return (
        ("\u00a0«\u00a0", outer + '"'),
        ("«\u00a0", '"'),
        ("«", '"'),
        ("\u00a0»\u00a0", '"' + outer),
        ("\u00a0»", '"'),
        ("»", '"'),
    )


def _comma_then_quote(match: re.Match[str]) -> str:
    return f'{match[1]}"'


def _replace(block: str, literals: _Literals) -> str:
    for old, new in literals:
        block = block.replace(old, new)
    return block


def _single_spaces(block: str) -> str:
    while "  " in block:
        block = block.replace("  ", " ")
    return block


def _dots_after_quote(block: str, after_quote: re.Pattern[str]) -> str:
    """Move the dots before a quote behind it: `Ja."` -> `Ja".`, unless a tag follows.

    As `(\\.+)"(\\s*[^<])` -> `"\\1\\2`, but searching for the quote first: the pattern itself takes
    quadratic time on a long row of dots.
    """
    pieces: list[str] = []
    done = 0
    match = after_quote.search(block)
    while match:
        quote = match.start()
        word_end = len(block[done:quote].rstrip(".")) + done
        if word_end == quote:  # these dots belong to the match before
            match = after_quote.search(block, quote + 1)
            continue
        pieces += (block[done:word_end], '"', block[word_end:quote], block[quote + 1 : match.end()])
        done = match.end()
        match = after_quote.search(block, done)
    pieces.append(block[done:])
    return "".join(pieces)
