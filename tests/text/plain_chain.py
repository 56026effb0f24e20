"""The plain chain, one line at a time: slow, obvious, and what the fast one must equal.

Mode `sacremoses` is what the XLM tokenizer of transformers does. Mode `moses` is the same with the
differences to the perl scripts repaired one by one (numbers as in `repairs`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from sacremoses import MosesPunctNormalizer
from sacremoses import MosesTokenizer as SacreMosesTokenizer
from sacremoses.corpus import Perluniprops

from xlm_lightning.text.moses import Mode

ROMANIAN = {"Ş": "S", "ş": "s", "Ţ": "T", "ţ": "t", "Ș": "S", "ș": "s", "Ț": "T", "ț": "t"}
ROMANIAN |= {"Ă": "A", "ă": "a", "Â": "A", "â": "a", "Î": "I", "î": "i"}


class PerlTokenizer(SacreMosesTokenizer):
    """sacremoses with (1) the line's last dot always split off and (6) all of perl's letters."""

    def __init__(self, lang: str) -> None:
        tables = Perluniprops()
        self.IsAlnum = self.IsAlnum + "".join(tables.chars("IsAlnum-unichars-au"))
        self.IsAlpha = self.IsAlpha + "".join(tables.chars("IsAlpha-unichars-au"))
        alpha = f"[{self.IsAlpha}]"
        self.PAD_NOT_ISALNUM = re.compile(rf"([^{self.IsAlnum}\s\.'\`\,\-])"), r" \1 "
        before, after = (r"\1 '\2", r"\1 '\2") if lang == "en" else (r"\1' \2", r"\1' \2")
        del after
        other, not_number = f"[^{self.IsAlpha}]", f"[^{self.IsAlpha}{self.IsN}]"
        rules = [
            (re.compile(f"({other})'({other})"), r"\1 ' \2"),
            (re.compile(f"({not_number if lang == 'en' else other})'({alpha})"), r"\1 ' \2"),
            (re.compile(f"({alpha})'({other})"), r"\1 ' \2"),
            (re.compile(f"({alpha})'({alpha})"), before),
        ]
        self.FR_IT_SPECIFIC_APOSTROPHE = rules
        self.ENGLISH_SPECIFIC_APOSTROPHE = [*rules, self.EN_SPECIFIC_5]
        super().__init__(lang=lang)

    def isanyalpha(self, text: str) -> bool:
        return bool(set(text) & _alpha(self.IsAlpha))

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        words = text.split()
        last = words[-1] if words else ""
        if len(last) > 1 and last.endswith("."):
            # A neutral follower keeps the words before as they are.
            rest = super().handles_nonbreaking_prefixes(" ".join([*words[:-1], last[:-1], "."]))
            return rest
        return super().handles_nonbreaking_prefixes(text)


@lru_cache(maxsize=4)
def _alpha(characters: str) -> frozenset[str]:
    return frozenset(characters)


class PlainTokenizer:
    """One line after the other through sacremoses."""

    def __init__(self, language: str, mode: Mode) -> None:
        self.language = language
        self.mode = mode
        moses = mode == "moses"
        norm_language = language
        if moses and language not in {"en", "cs"}:
            norm_language = language if language in {"de", "es", "fr"} else "xx"
        self.normalizer = MosesPunctNormalizer(
            lang=norm_language, pre_replace_unicode_punct=True, perl_parity=moses
        )
        if norm_language == "xx":  # (3) the rule for quotes and commas in all other languages
            rules = self.normalizer.substitutions
            rules[-1:-1] = MosesPunctNormalizer.DE_ES_FR_QUOTATION_FOLLOWED_BY_COMMA
        self.tokenizer = PerlTokenizer(language) if moses else SacreMosesTokenizer(lang=language)

    def tokenize(self, line: str) -> list[str]:
        if self.mode == "moses":
            text = self.normalizer.normalize(line.strip() + "\n")  # (2) `."` sees the newline
            blank = " "  # (5) control characters
        else:
            text, blank = self.normalizer.normalize(line), ""
        text = "".join(blank if unicodedata.category(c)[0] == "C" else c for c in text)
        if self.language == "ro":
            text = "".join(ROMANIAN.get(c, c) for c in text)
        return list(self.tokenizer.tokenize(text, escape=False))
