"""Moses tokenisation of many lines at once, equal to the plain tools line by line.

Mode `sacremoses` gives what the XLM tokenizer of transformers gives; mode `moses` gives what the
perl scripts give, that is the text of the original XLM.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from xlm_lightning.text.chunks import LINE_END, ChunkTokenizer
from xlm_lightning.text.punctuation import PunctuationNormalizer
from xlm_lightning.text.rules import LANGUAGES, MODES, Mode, language_rules

__all__ = ["LANGUAGES", "MODES", "Mode", "MosesTokenizer", "lower_and_remove_accents"]

# Sennrich's WMT16 scripts for Romanian: cedillas to commas below, then no diacritics.
_ROMANIAN = str.maketrans("ŞşŢţȘșȚțĂăÂâÎî", "SsTtSsTtAaAaIi")


def lower_and_remove_accents(text: str) -> str:
    """Lower-case, decompose (NFD), drop non-spacing marks, lower-case again: preset `wiki`."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    if decomposed.isascii():
        return decomposed
    marks = [c for c in set(decomposed) if unicodedata.category(c) == "Mn"]
    return decomposed.translate(dict.fromkeys(map(ord, marks))).lower()


class MosesTokenizer:
    """Punctuation normalised, control characters removed, words separated from punctuation."""

    def __init__(self, language: str, mode: Mode) -> None:
        """Choose the rules; an unknown language or mode is a `UserError` with the list."""
        rules = language_rules(language, mode)
        self.language = language
        self.mode = mode
        self._normalize = PunctuationNormalizer(language, mode)
        self._chunk_tokenizer = ChunkTokenizer(rules)

    def chunks(self, lines: Sequence[str]) -> list[str]:
        """Return chunks that can be tokenised one by one, and `LINE_END` after each line."""
        if not lines:
            return []
        block = "\n" + "\n".join(lines) + "\n"
        if block.count("\n") != len(lines) + 1:
            raise ValueError("a line of text must not hold a newline")
        return self._chunk_tokenizer.split(self._normalize(block))

    def tokenize_chunks(self, chunks: Sequence[str]) -> list[str]:
        """Return the tokens of each chunk (not of `LINE_END`), with white space between them."""
        tokenized = self._chunk_tokenizer.tokenize(chunks)
        if self.language == "ro":
            return [tokens.translate(_ROMANIAN) for tokens in tokenized]
        return tokenized

    def tokenize(self, lines: Sequence[str]) -> list[str]:
        """Return one string for each line, its tokens joined by a space."""
        chunks = self.chunks(lines)
        distinct = list(dict.fromkeys(chunks))
        if LINE_END in distinct:
            distinct.remove(LINE_END)
        tokens_of = dict(zip(distinct, self.tokenize_chunks(distinct), strict=True))
        tokenized: list[str] = []
        line: list[str] = []
        for chunk in chunks:
            if chunk == LINE_END:
                tokenized.append(" ".join(" ".join(line).split()))
                line.clear()
            else:
                line.append(tokens_of[chunk])
        return tokenized
