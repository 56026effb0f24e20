"""A synchronous weighted grammar: one derivation, one yield per language.

A *production* rewrites a symbol into child symbols. Its weights, one integer per topic, belong to
the meaning; what it looks like is told per language by *yields*: strings in which `$1` stands for
child 1 and `$1.dat` for child 1 in the form `dat`. Inflection and word order live in the yields
alone, so both languages share every choice. A lexical child may be named twice in a yield (`$1.fin
... $1.end`: a separable verb).

Weights are scaled, in integers, to sum to exactly `SCALE` per symbol and topic: a probability is
`weight / SCALE`, the same on every platform.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Language = Literal["de", "en"]
LANGUAGES: tuple[Language, ...] = ("de", "en")
SCALE_BITS = 16
SCALE = 1 << SCALE_BITS

Item = str | tuple[int, str]  # a terminal, or (child, form)
Yield = tuple[Item, ...]
_CHILD = re.compile(r"\$(\d)(?:\.([\w.]+))?")


@dataclass(frozen=True, slots=True)
class Production:
    """One way to rewrite `symbol`; `number` is its row in `Grammar.weights`."""

    number: int
    symbol: str
    children: tuple[str, ...]
    yields: Mapping[Language, Mapping[str, Yield]]

    def items(self, language: Language, form: str) -> Yield:
        """What it is made of in `form`; one that does not know the form has one for all ('')."""
        forms = self.yields[language]
        return forms[form] if form in forms else forms[""]


@dataclass(frozen=True)
class Grammar:
    """Productions by symbol, and `weights[production][topic]` out of `SCALE`."""

    topics: tuple[str, ...]
    productions: Mapping[str, tuple[Production, ...]]
    weights: tuple[tuple[int, ...], ...]


class GrammarBuilder:
    """Collects rules and checks that they close."""

    def __init__(self, topics: Sequence[str]) -> None:
        """The topics, equally likely: a power of two of them, since they are drawn from bits."""
        if len(topics).bit_count() != 1:
            raise ValueError(f"{len(topics)} topics: want a power of two")
        self._topics = tuple(topics)
        self._rules: dict[str, list[Production]] = {}
        self._weights: list[tuple[int, ...]] = []

    def rule(
        self,
        symbol: str,
        weight: int | Sequence[int],
        children: str = "",
        *,
        de: str | Mapping[str, str],
        en: str | Mapping[str, str],
    ) -> None:
        """Add `symbol -> children` (names separated by blanks); one weight serves all topics."""
        weights = (weight,) * len(self._topics) if isinstance(weight, int) else tuple(weight)
        yields: dict[Language, dict[str, Yield]] = {"de": _yields(de), "en": _yields(en)}
        production = Production(len(self._weights), symbol, tuple(children.split()), yields)
        self._rules.setdefault(symbol, []).append(production)
        self._weights.append(weights)

    def mass(self, symbol: str) -> list[int]:
        """Sum of the weights given to `symbol` so far, per topic."""
        rows = [self._weights[production.number] for production in self._rules.get(symbol, [])]
        return [sum(column) for column in zip(*rows, strict=True)] or [0] * len(self._topics)

    def build(self) -> Grammar:
        """Scale all weights; ValueError where a child has no rule."""
        for productions in self._rules.values():
            for production in productions:
                missing = [child for child in production.children if child not in self._rules]
                if missing:
                    raise ValueError(f"{production.symbol}: no rule for {', '.join(missing)}")
        weights: list[tuple[int, ...]] = list(self._weights)
        for productions in self._rules.values():
            rows = [self._weights[production.number] for production in productions]
            columns = [scale(column) for column in zip(*rows, strict=True)]
            for production, row in zip(productions, zip(*columns, strict=True), strict=True):
                weights[production.number] = row
        rules = {symbol: tuple(productions) for symbol, productions in self._rules.items()}
        return Grammar(self._topics, rules, tuple(weights))


def scale(weights: Sequence[int]) -> list[int]:
    """Integers in proportion to `weights` with the sum `SCALE`; a positive one stays positive."""
    total = sum(weights)
    scaled = [max(weight * SCALE // total, 1) if weight else 0 for weight in weights]
    scaled[scaled.index(max(scaled))] += SCALE - sum(scaled)  # the largest takes the rounding
    return scaled


def _yields(text: str | Mapping[str, str]) -> dict[str, Yield]:
    forms = {"": text} if isinstance(text, str) else text
    return {form: tuple(_item(word) for word in value.split()) for form, value in forms.items()}


def _item(word: str) -> Item:
    match = _CHILD.fullmatch(word)
    return (int(match[1]), match[2] or "") if match else word
