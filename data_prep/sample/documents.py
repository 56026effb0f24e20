"""Probability of text, and whether the grammar can say a sentence.

Both read the text alone. The topic of a document is hidden: its probability is the sum over topics
of P(topic) times the forward sum over all ways to cut the lines into units and derive each unit.
The blank line that ends a document carries the probability of stopping there. A text is a sequence
of documents that ends with the first document to reach the wanted size, so nothing else has to be
coded.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from data_prep.sample.grammar import Grammar, Language
from data_prep.sample.orthography import close_up, line_tokens, read_words
from data_prep.sample.scorer import Chart, Scorer, Vector, log_sum_exp
from data_prep.sample.sentences import (
    LOG_CONTINUE,
    LOG_STOP,
    NEWLINE,
    SENTENCES,
    sample_grammar,
)


def accepts(sentence: str, language: Language) -> bool:
    """Whether the grammar derives a sentence, given as running text or as Moses tokens."""
    readings = read_words(line_tokens(sentence), language)
    chart = _documents_in(language).scorer.inside(readings)
    return any(len(readings) in chart.ends(symbol, "", 0) for symbol in SENTENCES)


def log_probability(lines: Iterable[str], language: Language) -> float:
    """ln P of whole documents, each followed by a blank line; -inf for text outside the grammar."""
    documents = _documents_in(language)
    return math.fsum(documents.log_probability(document) for document in _cut(lines))


class DocumentScorer:
    """Documents of a grammar's units in one language."""

    def __init__(self, grammar: Grammar, language: Language) -> None:
        self.scorer = Scorer(grammar, language)
        self._topics = len(grammar.topics)
        self._language = language

    def log_probability(self, lines: Sequence[str]) -> float:
        """ln P of one document (its lines without the blank one)."""
        readings: list[tuple[str, ...]] = []
        for line in lines:
            tokens = line_tokens(line)
            if not tokens or close_up(tokens) != line:
                return -math.inf
            readings += [*read_words(tokens, self._language), (NEWLINE,)]
        total = self._forward(self.scorer.inside(readings), len(readings))
        return log_sum_exp(total.tolist()) - math.log(self._topics)

    def _forward(self, chart: Chart, length: int) -> Vector:
        """ln P(lines | topic); `before[i]` sums over all runs of units that fill words 0 to i."""
        before: dict[int, Vector] = {0: np.zeros(self._topics)}
        for start in range(length):
            if start not in before:
                continue
            for end, value in chart.ends("Unit", "", start).items():
                with np.errstate(divide="ignore"):
                    reached = before[start] + np.log(value)
                following = (
                    end + 1
                )  # past the line break between units, or the one that ends it all
                reached = reached + (LOG_STOP if following == length else LOG_CONTINUE)
                if following in before:
                    reached = np.logaddexp(before[following], reached)
                before[following] = reached
        return before.get(length, np.full(self._topics, -math.inf))


@cache
def _documents_in(language: Language) -> DocumentScorer:
    return DocumentScorer(sample_grammar(), language)


def _cut(lines: Iterable[str]) -> Iterator[list[str]]:
    document: list[str] = []
    for line in lines:
        if line:
            document.append(line)
        else:
            yield document
            document = []
    if document:
        raise ValueError("the last document is not closed by a blank line")
