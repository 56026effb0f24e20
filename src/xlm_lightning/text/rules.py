"""What the Moses rules know of a language: its prefixes and its classes of characters.

The data are those of sacremoses 0.2.0. Mode `sacremoses` takes them as they are; mode `moses` takes
the larger letter tables that come with them, because perl counts Han and other scripts as letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sacremoses import MosesTokenizer as SacreMosesTokenizer
from sacremoses.corpus import NonbreakingPrefixes, Perluniprops

from xlm_lightning.errors import UserError, did_you_mean

Mode = Literal["moses", "sacremoses"]
MODES: tuple[Mode, ...] = ("moses", "sacremoses")

# Chinese, Japanese and Thai need a word segmenter before Moses, Cantonese too.
_NEED_A_SEGMENTER = frozenset({"zh", "ja", "th", "yue"})
# tokenizer.perl has rules of their own for these, which sacremoses does not have.
_OWN_RULES_IN_PERL = frozenset({"fi", "sv", "ca", "ga", "so", "tdt"})
# Languages of XLM-17 and XLM-100 without a prefix file: Moses falls back to the English one.
_WITH_ENGLISH_PREFIXES = (
    "af als am an ang ar arz ast az bar be bg br bs ceb ckb cy da eo eu fa fy gl he hr hy ia id "
    "jv ka kk ko ku la lb mk mn ms my nds ne nn no oc scn sco sd sh si so sq sr sw tl tr tt uk ur "
    "uz vi war yi"
)
LANGUAGES = frozenset(
    (set(NonbreakingPrefixes().available_langs.values()) | set(_WITH_ENGLISH_PREFIXES.split()))
    - _NEED_A_SEGMENTER
)


@dataclass(frozen=True)
class LanguageRules:
    """Sets that decide where a word ends; `alnum`, `alpha` and `numbers` as one string each."""

    language: str
    mode: Mode
    prefixes: frozenset[str]
    numeric_prefixes: frozenset[str]
    alnum: frozenset[str]
    alpha: frozenset[str]
    lower: frozenset[str]
    numbers: frozenset[str]


@lru_cache(maxsize=8)
def language_rules(language: str, mode: Mode) -> LanguageRules:
    """Return the rules of `language`; a language without rules is a `UserError` with the list."""
    check_language(language, mode)
    tokenizer = SacreMosesTokenizer(lang=language)
    numeric = frozenset(tokenizer.NUMERIC_ONLY_PREFIXES)
    alnum, alpha = frozenset(tokenizer.IsAlnum), frozenset(tokenizer.IsAlpha)
    if mode == "moses":
        tables = Perluniprops()
        alnum |= frozenset(tables.chars("IsAlnum-unichars-au"))
        alpha |= frozenset(tables.chars("IsAlpha-unichars-au"))
    return LanguageRules(
        language=language,
        mode=mode,
        prefixes=frozenset(tokenizer.NONBREAKING_PREFIXES) - numeric,
        numeric_prefixes=numeric,
        alnum=alnum,
        alpha=alpha,
        lower=frozenset(tokenizer.IsLower),
        # The table of sacremoses counts the newline as a number; no line of text holds one.
        numbers=frozenset(tokenizer.IsN) - {"\n"},
    )


def check_language(language: str, mode: str) -> None:
    """Raise `UserError` for a language without rules, at no cost: no table is read."""
    if mode not in MODES:
        raise UserError(f"text.mode={mode!r}: must be one of {', '.join(MODES)}.")
    if language in _NEED_A_SEGMENTER:
        raise UserError(
            f"language {language!r} is written without spaces: segment its text into words first; "
            f"Moses has no rules for it."
        )
    if language not in LANGUAGES:
        raise UserError(
            f"unknown language {language!r}.{did_you_mean(language, LANGUAGES)} "
            f"Known: {' '.join(sorted(LANGUAGES))}"
        )
    if mode == "moses" and language in _OWN_RULES_IN_PERL:
        raise UserError(
            f"text.mode=moses: the perl tokenizer has rules for {language!r} that are not "
            f"implemented here; use text.mode=sacremoses."
        )
