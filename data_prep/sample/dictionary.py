"""The words of the grammar and their translations, as a dictionary and a list of names."""

from collections.abc import Iterator

from data_prep.sample.grammar import Production
from data_prep.sample.sentences import sample_grammar


def word_pairs() -> list[tuple[str, str]]:
    """(German, English) words of letters only that say the same, in every form; sorted.

    A word may have several translations. Separable verbs are left out: half of them stands
    elsewhere. So are translations of several words.
    """
    return sorted({pair for production in _lexical() for pair in _pairs_of(production)})


def proper_names() -> frozenset[str]:
    """All words of names, in both languages."""
    return frozenset(
        word
        for production in _lexical()
        if production.symbol.startswith("Name.")
        for forms in production.yields.values()
        for words in forms.values()
        for word in words
        if isinstance(word, str)
    )


def _lexical() -> Iterator[Production]:
    for productions in sample_grammar().productions.values():
        yield from (production for production in productions if not production.children)


def _pairs_of(production: Production) -> Iterator[tuple[str, str]]:
    german, english = production.yields["de"], production.yields["en"]
    if german.get("end"):
        return
    for form, words in german.items():
        translation = english.get(form, english.get("", ()))
        if len(words) == len(translation) == 1:
            pair = str(words[0]), str(translation[0])
            if all(word.isalpha() for word in pair):
                yield pair
