"""The tables of words: readable text files, and what they say about each word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

TOPICS = ("home", "school", "market", "garden", "travel", "work", "health", "music")
_AT_HOME, _ELSEWHERE = 4, 1  # how much likelier a word is in its own topics


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun of one class; `gender` is m, f, n or mw (weak masculine)."""

    kind: str
    singular: str
    plural: str
    german: str
    gender: str
    german_plural: str
    weights: tuple[int, ...]

    @property
    def article_gender(self) -> str:
        """The gender that articles and pronouns follow: m, f or n."""
        return self.gender[0]


@dataclass(frozen=True, slots=True)
class Verb:
    """Two dictionary entries that mean the same; `english` and `german` parse them."""

    kind: str
    english: str
    german: str
    weights: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Adjective:
    """English form, German predicate form and the stem that takes endings."""

    english: str
    german: str
    stem: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """A proper name."""

    kind: str
    english: str
    german: str


def zipf(rank: int) -> int:
    """Weight of the word at `rank` (from 0), ~ (rank + 1)^-3 above a floor.

    Steep on purpose: a model of minutes learns the head well, and the long tail costs it little.
    """
    return 400_000 // (rank + 1) ** 3 + 20


def nouns() -> list[Noun]:
    """All nouns, in the order of the table."""
    table = []
    for kind, rank, entry in _entries("nouns.txt"):
        english, german, topics = _columns(entry)
        singular, _, plural = english.partition("/")
        base, gender, german_plural = german.split()
        weights = _topical(zipf(rank), topics)
        words = singular.replace("_", " "), (plural or singular + "s").replace("_", " ")
        table.append(Noun(kind, *words, base, gender, german_plural, weights))
    return table + _compounds()


def _compounds() -> list[Noun]:
    """`Küchentisch`, kitchen table: things whose home is that of the modifier."""
    entries = list(_entries("compounds.txt"))
    modifiers = [_columns(entry) for kind, _, entry in entries if kind == "modifier"]
    table = []
    for kind, rank, entry in entries:
        if kind == "head":
            english, german, _ = _columns(entry)
            base, gender, plural = german.split()
            for place, prefix, topics in modifiers:
                words = f"{place} {english}", f"{place} {english}s", prefix + base.lower(), gender
                weights = _topical(zipf(rank) // 4, topics)
                table.append(Noun("thing", *words, prefix + plural.lower(), weights))
    return table


def verbs() -> list[Verb]:
    """All verbs, in the order of the table."""
    table = []
    for kind, rank, entry in _entries("verbs.txt"):
        english, german, topics = _columns(entry)
        table.append(Verb(kind, english, german, _topical(zipf(rank), topics)))
    return table


def adjectives() -> list[Adjective]:
    """All adjectives, in the order of the table."""
    table = []
    for _, _, entry in _entries("adjectives.txt"):
        english, german, kinds = _columns(entry)
        base, _, stem = german.partition("/")
        table.append(Adjective(english, base, stem or base, tuple(kinds)))
    return table


def names() -> list[Name]:
    """All proper names, in the order of the table."""
    table = []
    for kind, _, entry in _entries("names.txt"):
        english, _, german = entry.replace("_", " ").partition(" = ")
        table.append(Name(kind, english, german or english))
    return table


def _topical(weight: int, homes: Sequence[str]) -> tuple[int, ...]:
    """One weight a topic; a word without a home of its own is middling everywhere."""
    if not homes:
        return (weight * 2,) * len(TOPICS)
    return tuple(weight * (_AT_HOME if topic in homes else _ELSEWHERE) for topic in TOPICS)


def _columns(entry: str) -> tuple[str, str, list[str]]:
    words, _, tags = entry.partition(" : ")
    english, _, german = words.partition(" = ")
    return english.strip(), german.strip(), tags.split()


def _entries(name: str) -> Iterator[tuple[str, int, str]]:
    """(class, rank in the class, entry) of each line of a table."""
    kind, rank = "", 0
    text = files(__name__).joinpath(name).read_text(encoding="utf-8")
    for line in text.split("\n"):
        if line.startswith("["):
            kind, rank = line.strip("[]"), 0
        elif line and not line.startswith("#"):
            yield kind, rank, line
            rank += 1
