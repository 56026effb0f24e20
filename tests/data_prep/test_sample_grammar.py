"""The forward sum against brute force, on a grammar small enough to write out all its texts."""

import math
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import pytest

from data_prep.sample.documents import DocumentScorer
from data_prep.sample.grammar import LANGUAGES, SCALE, Grammar, GrammarBuilder, Language, scale
from data_prep.sample.orthography import read_words, write_line
from data_prep.sample.sampler import Meaning, Node, Sampler, Writer
from data_prep.sample.scorer import Scorer
from data_prep.sample.sentences import CONTINUE, NEWLINE


@pytest.fixture(scope="module")
def tiny() -> Grammar:
    """Two topics, a separable verb, a homonym ("bank"), an ambiguous cut of units ("I")."""
    build = GrammarBuilder(["money", "river"])
    build.rule("Noun", [5, 1], de="Bank", en="bank")
    build.rule("Noun", [1, 7], de="Ufer", en="bank")
    build.rule("Noun", [2, 2], de="Angel", en="rod")
    build.rule("Verb", 3, de={"fin": "sucht", "end": ""}, en="seeks")
    build.rule("Verb", [2, 1], de={"fin": "sucht", "end": "aus"}, en="chooses")
    build.rule("Verb", 1, de={"fin": "ruft", "end": "an"}, en="calls")
    build.rule("Who", 3, de="ich", en="I")
    build.rule("Who", 1, "Noun", de="die $0", en="the $0")
    build.rule("Clause", 4, "Who Verb Noun", de="$0 $1.fin $2 $1.end .", en="$0 $1 a $2 .")
    build.rule("Clause", 1, "Who Verb", de="$1.fin $0 $1.end ?", en="$1 $0 ?")
    build.rule("Unit", 5, "Clause", de="$0", en="$0")
    build.rule("Unit", 2, "Clause Clause", de=f"$0 {NEWLINE} $1", en=f"$0 {NEWLINE} $1")
    return build.build()


def derivations(grammar: Grammar, symbol: str) -> Iterator[Node]:
    for production in grammar.productions[symbol]:
        below = [list(derivations(grammar, child)) for child in production.children]
        for children in product(*below):
            yield Node(production.number, children)


def exact(grammar: Grammar, node: Node, topic: int) -> Fraction:
    value = Fraction(grammar.weights[node.production][topic], SCALE)
    for child in node.children:
        value *= exact(grammar, child, topic)
    return value


def strings(
    grammar: Grammar, symbol: str, language: Language
) -> dict[tuple[str, ...], list[Fraction]]:
    """Every string of a symbol (as lines) with its probability under each topic."""
    writer = Writer(grammar, language)
    table: dict[tuple[str, ...], list[Fraction]] = defaultdict(lambda: [Fraction(0), Fraction(0)])
    for node in derivations(grammar, symbol):
        sums = table[tuple(writer.lines(Meaning((node,), 0.0)))]
        for topic in (0, 1):
            sums[topic] += exact(grammar, node, topic)
    return table


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_strings_sum_to_one_and_equal_the_forward_sum(tiny: Grammar, language: Language):
    table = strings(tiny, "Clause", language)
    assert [sum(column) for column in zip(*table.values(), strict=True)] == [1, 1]
    scorer = Scorer(tiny, language)
    for (line,), expected in table.items():
        tokens = [*line[:-1].split(), line[-1]]
        chart = scorer.inside(read_words(tokens, language))
        assert chart.ends("Clause", "", 0)[len(tokens)].tolist() == pytest.approx(
            [float(value) for value in expected], rel=1e-12
        )


def test_the_homonym_is_summed(tiny: Grammar):
    german, english = strings(tiny, "Clause", "de"), strings(tiny, "Clause", "en")
    assert len(english) < len(german)
    bank = english[("I seeks a bank.",)]
    parts = german[("Ich sucht Bank.",)], german[("Ich sucht Ufer.",)]
    assert bank == [parts[0][topic] + parts[1][topic] for topic in (0, 1)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_document_probability_sums_topics_and_cuts(tiny: Grammar, language: Language):
    """Units of one and two clauses overlap; every document of one or two lines is written out."""
    clauses = strings(tiny, "Clause", language)
    units = strings(tiny, "Unit", language)
    go_on, stop = Fraction(CONTINUE, SCALE), Fraction(SCALE - CONTINUE, SCALE)
    scorer = DocumentScorer(tiny, language)
    lines = [line for (line,) in clauses]
    for first, second in product(lines[:12], lines[-12:]):
        expected = Fraction(0)
        for topic in (0, 1):
            two = units[(first,)][topic] * go_on * units[(second,)][topic]
            expected += (units[(first, second)][topic] + two) * stop / 2
        found = scorer.log_probability([first, second])
        assert found == pytest.approx(math.log(expected), rel=1e-12)


def test_the_generators_figure_is_the_scorers_where_one_derivation_exists(tiny: Grammar):
    sampler, writer = Sampler(tiny, 5, "one"), Writer(tiny, "de")
    scorer = DocumentScorer(tiny, "de")
    single = 0
    for _ in range(400):
        meaning = sampler.document()
        lines = writer.lines(meaning)
        if len(lines) == 1:
            single += 1
            assert scorer.log_probability(lines) == pytest.approx(meaning.log_probability)
        else:
            assert scorer.log_probability(lines) > meaning.log_probability  # other cuts add to it
    assert single > 20


def test_sampling_follows_the_weights(tiny: Grammar):
    """Share of each German clause among 20,000 first units, against its exact probability."""
    sampler, writer = Sampler(tiny, 9, "frequency"), Writer(tiny, "de")
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for _ in range(20_000):
        counts[tuple(writer.lines(Meaning(sampler.document().units[:1], 0.0)))] += 1
    for lines, (money, river) in strings(tiny, "Unit", "de").items():
        share = float((money + river) / 2)
        tolerance = 5 * math.sqrt(share * (1 - share) / 20_000)
        assert abs(counts[lines] / 20_000 - share) <= tolerance + 1e-4


def test_weights_scale_to_the_exact_sum():
    scaled = scale([10**6, 3, 0, 1])
    assert sum(scaled) == SCALE
    assert scaled[1] >= 1
    assert scaled[2] == 0
    assert scale([1, 1]) == [SCALE // 2, SCALE // 2]


def test_rules_must_close():
    build = GrammarBuilder(["only"])
    build.rule("Unit", 1, "Clause", de="$0", en="$0")
    with pytest.raises(ValueError, match="Unit: no rule for Clause"):
        build.build()
    with pytest.raises(ValueError, match="power of two"):
        GrammarBuilder(["a", "b", "c"])


def test_spelling():
    words = ["a", "old", "house", ",", "he", "says", "a", "tree", "."]
    assert write_line(words, "en") == "An old house, he says a tree."
    spoken = ["anna", "'s", '"', "a", "egg", "is", "cold", '"', ",", "she", "says", "."]
    assert write_line(spoken, "en") == 'Anna\'s "An egg is cold", she says.'
    assert read_words(["An", "tree"], "en")[0] == ("An",)
    assert read_words(["A", "tree"], "en")[0] == ("A", "a")
    assert read_words(["tree"], "en") == [()]
