"""The sample's English and German: exact figures, tokens that survive Moses, sentences judged."""

import math
from collections.abc import Iterator
from itertools import islice

import pytest

from data_prep.sample import accepts, log_probability
from data_prep.sample.documents import DocumentScorer
from data_prep.sample.grammar import LANGUAGES, Language
from data_prep.sample.orthography import line_tokens
from data_prep.sample.sampler import Meaning, Sampler, Writer
from data_prep.sample.sentences import sample_grammar
from xlm_lightning.text.moses import MosesTokenizer


def documents(language: Language, name: str) -> Iterator[tuple[Meaning, list[str]]]:
    sampler = Sampler(sample_grammar(), 11, name)
    writer = Writer(sample_grammar(), language)
    while True:
        meaning = sampler.document()
        yield meaning, writer.lines(meaning)


def check_figures(language: Language, name: str, count: int) -> None:
    scorer = DocumentScorer(sample_grammar(), language)
    for meaning, lines in islice(documents(language, name), count):
        found = scorer.log_probability(lines)
        assert found == pytest.approx(meaning.log_probability, rel=1e-9), lines


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_alone_gives_the_generators_probability(language: Language):
    """One derivation each: the sum over all derivations adds nothing to the one that was drawn."""
    check_figures(language, "figures", 60)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_text_alone_gives_the_generators_probability_on_a_large_sample(language: Language):
    check_figures(language, "many figures", 600)


def test_both_languages_have_the_same_probability():
    """Meanings are one-to-one with texts on either side, so a translation costs the same nats."""
    sampler = Sampler(sample_grammar(), 3, "pair")
    writers = {language: Writer(sample_grammar(), language) for language in LANGUAGES}
    for _ in range(10):
        meaning = sampler.document()
        german, english = (
            log_probability([*writers[language].lines(meaning), ""], language)
            for language in LANGUAGES
        )
        assert german == pytest.approx(english, rel=1e-9)
        assert german == pytest.approx(meaning.log_probability, rel=1e-9)


def test_log_probability_of_several_documents_adds_up():
    drawn = list(islice(documents("en", "several"), 3))
    lines = [line for _, document in drawn for line in (*document, "")]
    expected = math.fsum(meaning.log_probability for meaning, _ in drawn)
    assert log_probability(lines, "en") == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="blank line"):
        log_probability(lines[:-1], "en")


@pytest.mark.parametrize("mode", ["moses", "sacremoses"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_moses_finds_the_grammars_own_words(language: Language, mode: str):
    """So no two lines that differ share their tokens, and the entropy of both is the same."""
    lines = [
        line for _, document in islice(documents(language, "tokens"), 400) for line in document
    ]
    tokenised = MosesTokenizer(language, mode).tokenize(lines)
    for line, tokens in zip(lines, tokenised, strict=True):
        assert tokens.split() == line_tokens(line)


@pytest.mark.parametrize("mode", ["moses", "sacremoses"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_at_the_end_of_a_sentence_keeps_its_dot(language: Language, mode: str):
    never_last = {"Mr", "Mrs", "I"}  # their dots would stay in English
    words = sorted(
        {
            item
            for productions in sample_grammar().productions.values()
            for production in productions
            for items in production.yields[language].values()
            for item in items
            if isinstance(item, str) and item.isalpha() and item not in never_last
        }
    )
    assert len(words) > 1000
    lines = [f"x {word}." for word in words]
    tokenised = MosesTokenizer(language, mode).tokenize(lines)
    assert [line.split() for line in tokenised] == [["x", word, "."] for word in words]


@pytest.mark.parametrize("language", LANGUAGES)
def test_accepts_its_own_sentences_as_text_and_as_tokens(language: Language):
    for _, lines in islice(documents(language, "own"), 12):
        for line in lines:
            assert accepts(line, language), line
            assert accepts(" ".join(line_tokens(line)), language), line


@pytest.mark.parametrize(
    ("language", "right", "wrong"),
    [
        ("en", "The teacher calls the doctor.", "The teacher call the doctor."),
        ("en", "Anna sees an old man.", "Anna sees a old man."),
        ("en", "I have eaten an apple.", "I has eaten an apple."),
        ("en", "The table costs 20 euros.", "The table costs 20 euro."),
        ("en", "Anna looks for her key.", "Anna looks for his key her."),
        ("en", '"We play," says Peter.', '"We play", says Peter.'),
        ("de", "Die Lehrerin ruft den Zahnarzt an.", "Die Lehrerin ruft den Zahnarzt."),
        ("de", "Anna hilft dem alten Mann.", "Anna hilft den alten Mann."),
        ("de", "Am Montag schläft Anna.", "Am Montag Anna schläft."),
        ("de", "Er wartet, weil er arbeitet.", "Er wartet, weil er arbeitet nicht."),
        ("de", "Anna sucht ihren Schlüssel.", "Anna sucht seinen Schlüssel ihr."),
        ("de", "Der Küchentisch ist neu.", "Die Küchentisch ist neu."),
        (
            "de",
            "Das Konzert findet am 3. Mai im Park statt.",
            "Das Konzert findet am 3. Mai im Park.",
        ),
        ("de", "Peter ist in Berlin angekommen.", "Peter hat in Berlin angekommen."),
        ("de", '"Wir spielen", sagt Peter.', '"Wir spielen," sagt Peter.'),
        ("de", "Karl putzt das Fenster.", "karl putzt das Fenster."),
        ("de", "Das Buch der Lehrerin ist alt.", "Das Buch die Lehrerin ist alt."),
    ],
)
def test_grammar_is_kept(language: Language, right: str, wrong: str):
    assert accepts(right, language)
    assert not accepts(wrong, language)


@pytest.mark.parametrize(
    "line", ["", " ", ".", "Anna", "Anna 's", '"', "a", "ü'", "Anna sleeps. Anna sleeps."]
)
def test_fragments_are_no_sentences(line: str):
    for language in LANGUAGES:
        assert not accepts(line, language)


@pytest.mark.parametrize(
    "lines", [["Anna sleeps .", ""], ["Anna  sleeps.", ""], ["Anna sleep.", ""]]
)
def test_text_outside_the_grammar_has_no_probability(lines: list[str]):
    assert log_probability(["Anna sleeps.", ""], "en") > -30
    assert log_probability(lines, "en") == -math.inf
