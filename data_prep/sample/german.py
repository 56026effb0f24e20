"""German word forms: declension of articles, adjectives and nouns; conjugation of weak and strong
verbs.
"""

import re
from dataclasses import dataclass

CASES = ("nom", "acc", "dat", "gen")
_INSEPARABLE = ("be", "ver", "er", "ent", "zer", "über", "unter")
_VOWEL_GROUP = re.compile(r"[aeiouäöüy]+", re.IGNORECASE)

# Articles by gender (m, f, n, pl), in the order of CASES.
DEFINITE = {
    "m": ["der", "den", "dem", "des"],
    "f": ["die", "die", "der", "der"],
    "n": ["das", "das", "dem", "des"],
    "pl": ["die", "die", "den", "der"],
}
DEMONSTRATIVE = {
    "m": ["dieser", "diesen", "diesem", "dieses"],
    "f": ["diese", "diese", "dieser", "dieser"],
    "n": ["dieses", "dieses", "diesem", "dieses"],
    "pl": ["diese", "diese", "diesen", "dieser"],
}
_EIN_ENDINGS = {
    "m": ("", "en", "em", "es"),
    "f": ("e", "e", "er", "er"),
    "n": ("", "", "em", "es"),
    "pl": ("e", "e", "en", "er"),
}
# Endings of the adjective after der-words, after ein-words, and without an article (strong).
WEAK = {
    "m": ("e", "en", "en", "en"),
    "f": ("e", "e", "en", "en"),
    "n": ("e", "e", "en", "en"),
    "pl": ("en",) * 4,
}
MIXED = {
    "m": ("er", "en", "en", "en"),
    "f": ("e", "e", "en", "en"),
    "n": ("es", "es", "en", "en"),
    "pl": ("en",) * 4,
}
STRONG_PLURAL = {"pl": ("e", "e", "en", "er")}


def ein_word(stem: str, gender: str) -> list[str]:
    """`ein`, `mein`, `unser` ... in the four cases."""
    return [stem + ending for ending in _EIN_ENDINGS[gender]]


def singular(noun: str, gender: str, plural: str) -> dict[str, str]:
    """The four cases; a weak masculine (`mw`) has its plural form outside the nominative."""
    if gender == "mw":
        return {case: noun if case == "nom" else plural for case in CASES}
    genitive = noun if gender == "f" else noun + _genitive_ending(noun)
    return {case: genitive if case == "gen" else noun for case in CASES}


def plural_cases(plural: str) -> dict[str, str]:
    """The four cases of the plural: only the dative adds an n."""
    dative = plural if plural.endswith(("n", "s")) else plural + "n"
    return {case: dative if case == "dat" else plural for case in CASES}


def _genitive_ending(noun: str) -> str:
    hissing = noun.endswith(("s", "ß", "x", "z", "sch", "st"))
    short = len(_VOWEL_GROUP.findall(noun)) == 1 and noun[-1].lower() not in "aeiouyäöü"
    return "es" if hissing or short else "s"


@dataclass(frozen=True, slots=True)
class GermanVerb:
    """One verb; `particle` is '' unless it is separable."""

    particle: str
    infinitive: str
    third: str
    past: str
    participle: str
    auxiliary: str  # haben or sein

    @classmethod
    def parse(cls, entry: str) -> "GermanVerb":
        """From `[particle|]infinitive[/3rd person/past/participle][*]`."""
        auxiliary = "sein" if entry.endswith("*") else "haben"
        particle, _, rest = entry.rstrip("*").rpartition("|")
        infinitive, *strong = rest.split("/")
        if strong:
            return cls(particle, infinitive, strong[0], strong[1], strong[2], auxiliary)
        stem = _stem(infinitive)
        link = "e" if re.search(r"[td]$|(ch|ff|t|d)[nm]$", stem) else ""
        plain = infinitive.startswith(_INSEPARABLE) or infinitive.endswith("ieren")
        prefix = "" if plain else "ge"
        weak = stem + link + "t"
        return cls(particle, infinitive, weak, weak + "e", prefix + weak, auxiliary)

    def forms(self, tense: str) -> dict[str, str]:
        """`fin.AGR` at second place, `end` closing a clause, `sub.AGR` closing a subordinate."""
        finite, end = self._finite(tense)
        forms = {"end": end}
        for agreement, word in finite.items():
            forms[f"fin.{agreement}"] = word
            joined = tense in ("present", "past")
            forms[f"sub.{agreement}"] = self.particle + word if joined else f"{end} {word}"
        return forms

    def _finite(self, tense: str) -> tuple[dict[str, str], str]:
        if tense == "present":
            first = _stem(self.infinitive) + "e"
            first = first[:-3] + "le" if first.endswith("ele") else first  # lächele -> lächle
            return {"1s": first, "3s": self.third, "p": self.infinitive}, self.particle
        if tense == "past":
            several = self.past + ("n" if self.past.endswith("e") else "en")
            return {"1s": self.past, "3s": self.past, "p": several}, self.particle
        if tense == "perfect":
            have = {"1s": "habe", "3s": "hat", "p": "haben"}
            be = {"1s": "bin", "3s": "ist", "p": "sind"}
            return (be if self.auxiliary == "sein" else have), self.particle + self.participle
        modal = {
            "can": {"1s": "kann", "3s": "kann", "p": "können"},
            "must": {"1s": "muss", "3s": "muss", "p": "müssen"},
            "will": {"1s": "werde", "3s": "wird", "p": "werden"},
        }[tense]
        return modal, self.particle + self.infinitive


def _stem(infinitive: str) -> str:
    return infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]
