"""The sample grammar's dictionary, and its pairs of right and wrong sentences."""

from collections import Counter
from itertools import islice

import pytest

from data_prep.sample import accepts
from data_prep.sample.dictionary import proper_names, word_pairs
from data_prep.sample.minimal_pairs import MOST_OF_A_SWAP, PHENOMENA, minimal_pairs


def test_the_dictionary_holds_translations_in_every_form():
    pairs = word_pairs()
    assert {("Hund", "dog"), ("Hunden", "dogs"), ("alte", "old"), ("sah", "saw")} <= set(pairs)
    assert {("sie", "she"), ("sie", "they"), ("Köln", "Cologne"), ("Anna", "Anna")} <= set(pairs)
    assert ("ruft", "calls") not in pairs  # ruft ... an
    assert all(word.isalpha() for pair in pairs for word in pair)
    assert pairs == sorted(set(pairs))
    assert {"Annas", "York", "München", "Munich"} <= proper_names()


def differing(right, wrong):
    """The two forms."""
    words = [sentence.replace('"', "").split() for sentence in (right, wrong)]
    changed = [
        (one.strip(",.?"), other.strip(",.?"))
        for one, other in zip(*words, strict=True)
        if one != other
    ]
    (forms,) = [pair for pair in changed if {*pair} != {"a", "an"}]
    return forms


@pytest.mark.parametrize(
    ("language", "phenomenon"),
    [(language, phenomenon) for language in PHENOMENA for phenomenon in PHENOMENA[language]],
)
def test_one_word_makes_the_difference_and_either_form_is_right_as_often(language, phenomenon):
    pairs = list(islice(minimal_pairs(phenomenon, language, 0), 24))
    assert pairs == list(islice(minimal_pairs(phenomenon, language, 0), 24))
    assert len(set(pairs)) == 24
    swaps = Counter()
    for right, wrong in pairs:
        assert accepts(right, language)
        assert not accepts(wrong, language)
        swaps[differing(right, wrong)] += 1
    assert all(swaps[other, one] == count for (one, other), count in swaps.items())


def test_common_words_are_not_most_of_all_pairs():
    pairs = islice(minimal_pairs("adjective ending", "de", 0), 60)
    swaps = Counter(frozenset(differing(*pair)) for pair in pairs)
    assert swaps[frozenset(("alte", "alten"))] == MOST_OF_A_SWAP == max(swaps.values())


def test_other_seeds_give_other_pairs():
    first, second = (set(islice(minimal_pairs("article case", "de", seed), 10)) for seed in (0, 1))
    assert not first & second
