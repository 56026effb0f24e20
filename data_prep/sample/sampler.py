"""Draws documents from the grammar and keeps their exact probability.

Only `random.Random(int).getrandbits` is used (the same bits on every platform and Python version),
compared with integer tables. The probability of a document is summed over its hidden topic.
"""

import hashlib
import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple

import numpy as np

from data_prep.sample.grammar import SCALE, SCALE_BITS, Grammar, Item, Language
from data_prep.sample.orthography import write_line
from data_prep.sample.scorer import log_sum_exp
from data_prep.sample.sentences import CONTINUE, LOG_CONTINUE, LOG_STOP, NEWLINE


class Node(NamedTuple):
    """A derivation: the number of the production, and one node per child."""

    production: int
    children: tuple["Node", ...]


@dataclass(frozen=True)
class Meaning:
    """A document before it is put into words: its units, and ln P of them all."""

    units: tuple[Node, ...]
    log_probability: float


class Sampler:
    """A stream of documents; equal seeds and names give equal streams."""

    def __init__(self, grammar: Grammar, seed: int, *names: str) -> None:
        digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
        self._bits = Random(int.from_bytes(digest, "big")).getrandbits
        self._topics = len(grammar.topics)
        self._tables = [_tables(grammar, topic) for topic in range(self._topics)]
        self._log_weights = np.log(np.maximum(np.asarray(grammar.weights, dtype=float), 1e-300))
        self._log_weights -= math.log(SCALE)

    def document(self) -> Meaning:
        """Draw the topic, then units until it stops."""
        table = self._tables[self._bits(32) % self._topics]
        trace: list[int] = []
        units = [self._derive(table, "Unit", trace)]
        while self._bits(SCALE_BITS) < CONTINUE:
            units.append(self._derive(table, "Unit", trace))
        per_topic = self._log_weights[trace].sum(axis=0)
        choices = log_sum_exp(per_topic.tolist()) - math.log(self._topics)
        return Meaning(tuple(units), choices + (len(units) - 1) * LOG_CONTINUE + LOG_STOP)

    def _derive(self, table: "Table", symbol: str, trace: list[int]) -> Node:
        bounds, productions = table[symbol]
        number, children = productions[bisect_right(bounds, self._bits(SCALE_BITS))]
        trace.append(number)
        if not children:
            return Node(number, ())
        return Node(number, tuple([self._derive(table, child, trace) for child in children]))


Table = dict[str, tuple[list[int], list[tuple[int, tuple[str, ...]]]]]


def _tables(grammar: Grammar, topic: int) -> Table:
    """Per symbol: cumulative weights, and what each interval chooses."""
    table: Table = {}
    for symbol, productions in grammar.productions.items():
        bounds = list(accumulate(grammar.weights[p.number][topic] for p in productions))
        table[symbol] = bounds, [(p.number, p.children) for p in productions]
    return table


class Writer:
    """Puts meanings into the words of one language."""

    def __init__(self, grammar: Grammar, language: Language) -> None:
        self._language = language
        self._yields: list[dict[str, tuple[Item, ...]]] = [{} for _ in grammar.weights]
        for productions in grammar.productions.values():
            for production in productions:
                self._yields[production.number] = dict(production.yields[language])

    def lines(self, meaning: Meaning) -> list[str]:
        """The sentences of a document, without the blank line that ends it."""
        return [write_line(words, self._language) for words in self.sentences(meaning)]

    def sentences(self, meaning: Meaning) -> list[list[str]]:
        """The words of each sentence of a document, as the grammar has them."""
        sentences: list[list[str]] = []
        for unit in meaning.units:
            words: list[str] = []
            self._realise(unit, "", words)
            sentences.append([])
            for word in words:
                if word == NEWLINE:
                    sentences.append([])
                else:
                    sentences[-1].append(word)
        return sentences

    def _realise(self, node: Node, form: str, words: list[str]) -> None:
        forms = self._yields[node.production]
        for item in forms[form] if form in forms else forms[""]:
            if isinstance(item, str):
                words.append(item)
            else:
                self._realise(node.children[item[0]], item[1], words)
