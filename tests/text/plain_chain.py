"""The plain chain, one line at a time: slow, obvious, and what the fast one must equal.

Mode `sacremoses` is what the XLM tokenizer of transformers does. Mode `moses` is the same with the
differences to the perl scripts repaired one by one; they are numbered.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from pathlib import Path

from sacremoses import MosesPunctNormalizer
from sacremoses import MosesTokenizer as SacreMosesTokenizer
from sacremoses.corpus import Perluniprops

from xlm_lightning.text.moses import Mode
from xlm_lightning.text.pipeline import MAX_WORD_LENGTH
from xlm_lightning.text.vocabulary import EOS, SPECIALS, UNK

ROMANIAN = {"Ş": "S", "ş": "s", "Ţ": "T", "ţ": "t", "Ș": "S", "ș": "s", "Ț": "T", "ț": "t"}
ROMANIAN |= {"Ă": "A", "ă": "a", "Â": "A", "â": "a", "Î": "I", "î": "i"}


def as_ranges(characters: str) -> str:
    """The inside of `[...]`; one by one, the 100,000 letters make the patterns crawl."""
    points = {ord(character) for character in characters}
    starts = [chr(point) for point in sorted(points) if point - 1 not in points]
    ends = [chr(point) for point in sorted(points) if point + 1 not in points]
    return "".join(f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


class PerlTokenizer(SacreMosesTokenizer):
    """sacremoses with (1) the line's last dot always split off and (6) all of perl's letters."""

    LETTERS = frozenset(SacreMosesTokenizer.IsAlpha) | set(
        Perluniprops().chars("IsAlpha-unichars-au")
    )
    IsAlnum = as_ranges(
        SacreMosesTokenizer.IsAlnum + "".join(Perluniprops().chars("IsAlnum-unichars-au"))
    )
    IsAlpha = as_ranges("".join(LETTERS))
    PAD_NOT_ISALNUM = re.compile(rf"([^{IsAlnum}\s\.'\`\,\-])"), r" \1 "
    _OTHER_OTHER = re.compile(f"([^{IsAlpha}])'([^{IsAlpha}])"), r"\1 ' \2"
    _LETTER_OTHER = re.compile(f"([{IsAlpha}])'([^{IsAlpha}])"), r"\1 ' \2"
    ENGLISH_SPECIFIC_APOSTROPHE = (
        _OTHER_OTHER,
        (re.compile(f"([^{IsAlpha}{SacreMosesTokenizer.IsN}])'([{IsAlpha}])"), r"\1 ' \2"),
        _LETTER_OTHER,
        (re.compile(f"([{IsAlpha}])'([{IsAlpha}])"), r"\1 '\2"),
        SacreMosesTokenizer.EN_SPECIFIC_5,
    )
    FR_IT_SPECIFIC_APOSTROPHE = (
        _OTHER_OTHER,
        (re.compile(f"([^{IsAlpha}])'([{IsAlpha}])"), r"\1 ' \2"),
        _LETTER_OTHER,
        (re.compile(f"([{IsAlpha}])'([{IsAlpha}])"), r"\1' \2"),
    )

    def isanyalpha(self, text: str) -> bool:
        return not self.LETTERS.isdisjoint(text)

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        words = text.split()
        if words and len(words[-1]) > 1 and words[-1].endswith("."):
            words[-1:] = [words[-1][:-1], "."]  # (1): its own dot alone, the words before as ever
        return super().handles_nonbreaking_prefixes(" ".join(words))


class PlainTokenizer:
    """One line after the other through sacremoses."""

    def __init__(self, language: str, mode: Mode) -> None:
        self.language = language
        self.mode = mode
        quotes = language  # whose rule for quotes and commas
        if mode == "moses" and language not in {"en", "cs"}:
            quotes = "de"  # (3): perl has one for English, none for Czech, one for all others
        self.normalizer = MosesPunctNormalizer(
            lang=quotes,
            pre_replace_unicode_punct=True,
            perl_parity=mode == "moses",
            norm_numbers=False,
        )
        decimal_comma = language in {"de", "es", "cs", "fr"}
        self.normalizer.substitutions += (
            MosesPunctNormalizer.DE_ES_CZ_CS_FR if decimal_comma else MosesPunctNormalizer.OTHER
        )
        tokenizer = PerlTokenizer if mode == "moses" else SacreMosesTokenizer
        self.tokenizer = tokenizer(lang=language)

    def __call__(self, line: str) -> str:
        """Tokens joined by a space."""
        if self.mode == "moses":
            text = self.normalizer.normalize(line + "\n")  # (2): `."` sees the newline
            blank = " "  # (5): a control character becomes a space
        else:
            text, blank = self.normalizer.normalize(line), ""
        text = "".join(blank if unicodedata.category(c)[0] == "C" else c for c in text)
        if self.language == "ro":
            text = "".join(ROMANIAN.get(c, c) for c in text)
        return " ".join(self.tokenizer.tokenize(text, escape=False))


def plain_casing(text: str) -> str:
    """The casing of preset `wiki`, as the original's script does it."""
    text = unicodedata.normalize("NFD", text.rstrip().lower())
    return "".join(c for c in text if unicodedata.category(c) != "Mn").lower()


class PlainBpe:
    """Merge the best pair again and again, as the definition says; words are remembered."""

    def __init__(self, codes: Path) -> None:
        lines = codes.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        self.ranks = {tuple(line.split(" ")[:2]): rank for rank, line in enumerate(lines)}
        self.known: dict[str, str] = {}

    def __call__(self, text: str) -> list[str]:
        words = [word for word in text.split(" ") if word]
        for word in words:
            if word not in self.known:
                short = len(word) <= MAX_WORD_LENGTH
                self.known[word] = " ".join(self.pieces(word)) if short else "<unk>"
        return [piece for word in words for piece in self.known[word].split(" ")]

    def pieces(self, word: str) -> list[str]:
        symbols = [*word[:-1], word[-1] + "</w>"]
        while len(symbols) > 1:
            pairs = list(pairwise(symbols))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            merged, index = [], 0
            while index < len(symbols):
                width = 2 if tuple(symbols[index : index + 2]) == best else 1
                merged.append("".join(symbols[index : index + width]))
                index += width
            symbols = merged
        return [symbol + "@@" for symbol in symbols[:-1]] + [symbols[-1].removesuffix("</w>")]


class PlainChain:
    """Raw line to ids: tokeniser, casing, BPE, look-up in the vocabulary."""

    def __init__(self, language: str, mode: Mode, codes: Path, vocabulary: Path) -> None:
        self.tokenize = PlainTokenizer(language, mode)
        self.bpe = PlainBpe(codes)
        lines = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        self.ids = {line.split(" ")[0]: len(SPECIALS) + i for i, line in enumerate(lines)}

    def ids_of(self, tokens: str) -> list[int]:
        return [*(self.ids.get(piece, UNK) for piece in self.bpe(tokens)), EOS]
