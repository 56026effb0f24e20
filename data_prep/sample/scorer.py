"""Exact probabilities of text: the forward sum over every derivation, from the words alone.

`inside` is the inside algorithm over the synchronous grammar's yields in one language. Its values
are vectors over topics: P(words | topic). It needs no hidden choice of the generator, sums all
derivations of an ambiguous string, and is the judge of both the generator's own figures and a
model's sentences. A lexical child that a yield names more than once (the two halves of a separable
verb) is bound at its first place and must match the same production at the others.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data_prep.sample.grammar import SCALE, Grammar, Item, Language, Production, Yield

Vector = NDArray[np.float64]
Readings = Sequence[tuple[str, ...]]
State = tuple[int, tuple[tuple[int, int], ...]]  # position, (child, production number) bound so far


class Scorer:
    """The grammar in one language, indexed by first words."""

    def __init__(self, grammar: Grammar, language: Language) -> None:
        self._language = language
        self._productions = grammar.productions
        self._probability: Vector = np.asarray(grammar.weights, dtype=np.float64) / SCALE
        self._by_number = {
            production.number: production
            for productions in grammar.productions.values()
            for production in productions
        }
        self._first = cache(self._compute_first)
        self._index = cache(self._compute_index)

    def inside(self, readings: Readings) -> "Chart":
        """A chart over the readings of each token."""
        return Chart(self, readings)

    def items(self, production: Production, form: str) -> Yield:
        """The yield of `production` in this language."""
        return production.items(self._language, form)

    def probability(self, production: Production) -> Vector:
        """P(production | symbol, topic), per topic."""
        row: Vector = self._probability[production.number]
        return row

    def production(self, number: int) -> Production:
        """The production of that number."""
        return self._by_number[number]

    def candidates(self, symbol: str, form: str, words: Iterable[str]) -> Iterator[Production]:
        """Productions whose yield may begin with one of `words`."""
        index = self._index(symbol, form)
        seen: set[int] = set()
        for word in (*words, None):
            for production in index.get(word, ()):
                if production.number not in seen:
                    seen.add(production.number)
                    yield production

    def _compute_first(self, symbol: str, form: str) -> frozenset[str | None]:
        words: set[str | None] = set()
        for production in self._productions[symbol]:
            words |= self._first_of(production, form)
        return frozenset(words)

    def _first_of(self, production: Production, form: str) -> frozenset[str | None]:
        """First words of a production; None stands for the empty yield."""
        words: set[str | None] = set()
        for item in self.items(production, form):
            if isinstance(item, str):
                return frozenset(words | {item})
            child = self._first(production.children[item[0]], item[1])
            words |= child - {None}
            if None not in child:
                return frozenset(words)
        return frozenset(words | {None})

    def _compute_index(self, symbol: str, form: str) -> Mapping[str | None, list[Production]]:
        index: dict[str | None, list[Production]] = {}
        for production in self._productions[symbol]:
            for word in self._first_of(production, form):
                index.setdefault(word, []).append(production)
        return index


class Chart:
    """Memoised inside sums over one sequence of tokens."""

    def __init__(self, scorer: Scorer, readings: Readings) -> None:
        self._scorer = scorer
        self._readings = readings
        self._memo: dict[tuple[str, str, int], dict[int, Vector]] = {}

    def ends(self, symbol: str, form: str, start: int) -> dict[int, Vector]:
        """End position -> P(words from `start` to there | symbol, form, topic)."""
        key = (symbol, form, start)
        if key not in self._memo:
            sums: dict[int, Vector] = {}
            for production in self._scorer.candidates(symbol, form, self._words(start)):
                own = self._scorer.probability(production)
                for end, value in self._match(production, form, start).items():
                    sums[end] = sums[end] + own * value if end in sums else own * value
            self._memo[key] = sums
        return self._memo[key]

    def _words(self, position: int) -> tuple[str, ...]:
        return self._readings[position] if position < len(self._readings) else ()

    def _match(self, production: Production, form: str, start: int) -> dict[int, Vector]:
        items = self._scorer.items(production, form)
        places = [item[0] for item in items if not isinstance(item, str)]
        twice = {child for child in places if places.count(child) > 1}
        states: dict[State, Vector] = {(start, ()): np.ones(())}
        for item in items:
            following: dict[State, Vector] = {}
            for state, value in states.items():
                for after, factor in self._step(production, item, state, twice):
                    total = value * factor
                    following[after] = following[after] + total if after in following else total
            if not following:
                return {}
            states = following
        ends: dict[int, Vector] = {}
        for (position, _), value in states.items():
            ends[position] = ends[position] + value if position in ends else value
        return ends

    def _step(
        self, production: Production, item: Item, state: State, twice: set[int]
    ) -> Iterator[tuple[State, Vector | float]]:
        position, bound = state
        if isinstance(item, str):
            if item in self._words(position):
                yield (position + 1, bound), 1.0
            return
        child, form = item
        symbol = production.children[child]
        if child not in twice:
            for end, value in self.ends(symbol, form, position).items():
                yield (end, bound), value
            return
        chosen = dict(bound).get(child)
        if chosen is not None:
            matched = self._match_words(self._scorer.production(chosen), form, position)
            if matched is not None:
                yield (matched, bound), 1.0
            return
        for option in self._scorer.candidates(symbol, form, self._words(position)):
            matched = self._match_words(option, form, position)
            if matched is not None:
                yield (matched, (*bound, (child, option.number))), self._scorer.probability(option)

    def _match_words(self, production: Production, form: str, position: int) -> int | None:
        for word in self._scorer.items(production, form):
            if not isinstance(word, str):
                raise TypeError(f"{production.symbol} is named twice in a yield but is not lexical")
            if word not in self._words(position):
                return None
            position += 1
        return position


def log_sum_exp(values: Iterable[float]) -> float:
    """ln sum e^v, exact to the rounding of doubles."""
    listed = list(values)
    highest = max(listed)
    if highest == -math.inf:
        return highest
    return highest + math.log(math.fsum(math.exp(value - highest) for value in listed))
