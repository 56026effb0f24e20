"""BLEU and chrF: sacrebleu's own values, multi-bleu.perl's definition, and what chance does."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from xlm_lightning.bleu import bootstrap, corpus_scores, tokenised_bleu

REFERENCES = [
    "The old teacher saw a small house near the river.",
    'He said: "I don\'t know, Mr. Miller!"',
    "It costs 1,234.50 euros.",
    "Yes.",
]
HYPOTHESES = [
    "The old teacher saw the small house by the river.",
    'He said: "I do not know, Mr. Miller."',
    "It costs 1,234.50 euros.",
    "Yes, yes.",
]


def garbled(lines: Sequence[str], share: float, seed: int) -> list[str]:
    """The lines with this share of their words replaced."""
    draw = random.Random(seed)
    return [
        " ".join("blub" if draw.random() < share else word for word in line.split())
        for line in lines
    ]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Two hundred different sentences of 4 to 15 words."""
    draw = random.Random(7)
    words = [*"abcdefgh", "the", "house", "river", "old", "teacher", "sees", "never", "small"]
    return [" ".join(draw.choices(words, k=draw.randint(4, 15))) + "." for _ in range(200)]


# --- scores ---------------------------------------------------------------------------------------
def test_scores_and_signatures_are_those_of_sacrebleu() -> None:
    scores = corpus_scores(HYPOTHESES, REFERENCES)
    assert scores["bleu"] == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score
    assert scores["signatures"] == {
        "bleu": f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}",
        "chrf": f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{sacrebleu.__version__}",
    }
    assert {type(scores["bleu"]), type(scores["chrf"])} == {float}


def test_a_perfect_and_an_empty_translation() -> None:
    perfect = corpus_scores(REFERENCES, REFERENCES)
    assert (perfect["bleu"], perfect["chrf"]) == (pytest.approx(100), pytest.approx(100))
    empty = corpus_scores([""] * 4, REFERENCES)
    assert (empty["bleu"], empty["chrf"]) == (0, 0)


def test_case_counts() -> None:
    lowered = [line.lower() for line in REFERENCES]
    assert corpus_scores(lowered, REFERENCES)["bleu"] < 90


def test_sacrebleu_is_imported_late() -> None:
    told = "import sys, xlm_lightning.bleu; print('sacrebleu' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- the original's definition --------------------------------------------------------------------
def multi_bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """BLEU by its formula (Papineni et al. 2002), one reference, log 0 = minus infinity."""
    hits, totals = [0] * 4, [0] * 4
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for n in range(1, 5):
            found, there = (
                Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
                for words in (hypothesis, reference)
            )
            hits[n - 1] += sum((found & there).values())
            totals[n - 1] += sum(found.values())
    if 0 in hits:
        return 0.0
    length, wanted = sum(map(len, hypotheses)), sum(map(len, references))
    brevity = min(0.0, 1 - wanted / length)
    precision = sum(math.log(hit / total) for hit, total in zip(hits, totals, strict=True)) / 4
    return 100 * math.exp(brevity + precision)


@pytest.mark.parametrize(
    ("hypotheses", "references"),
    [
        (["the cat sat on the mat ."], ["the cat sat on a mat ."]),
        (["the the the the the the the"], ["the cat is on the mat"]),  # no 2-gram hits: 0
        (["a b c"], ["a b c"]),  # no 4-grams at all: 0
        (["a b c d e"], ["a b c d e f g h"]),  # too short
        (["a b c d e f g h"], ["a b c d e"]),  # too long: no reward
        (["", "a b c d"], ["x y", "a b c d"]),
        ([""], ["x y"]),
        (["A b c d"], ["a b c d"]),  # cased
        (["1,234.50 Mr."], ["1,234.50 Mr ."]),  # nothing is cut
        (["a <unk> c d e"], ["a <<unk>> c d e"]),
        (["say &quot; hi &quot; now"], ['say " hi " now']),  # nothing is unescaped
    ],
)
def test_tokenised_bleu_by_its_formula(hypotheses: list[str], references: list[str]) -> None:
    words = [line.split() for line in hypotheses], [line.split() for line in references]
    assert tokenised_bleu(*words) == pytest.approx(multi_bleu(*words), abs=1e-9)


def test_tokenised_bleu_of_many_sentences(lines: list[str]) -> None:
    for share in (0.05, 0.3, 0.9):
        hypotheses = [line.split() for line in garbled(lines, share, seed=1)]
        references = [line.split() for line in lines]
        ours = tokenised_bleu(hypotheses, references)
        assert ours == pytest.approx(multi_bleu(hypotheses, references), abs=1e-9)


# --- chance ---------------------------------------------------------------------------------------
def test_intervals_hold_the_scores(lines: list[str]) -> None:
    systems = [garbled(lines, share, seed=2) for share in (0.1, 0.3)]
    found = bootstrap(systems, lines)
    for system, bleu, (low, high) in zip(systems, found.bleu, found.intervals, strict=True):
        assert bleu == pytest.approx(corpus_scores(system, lines)["bleu"])
        assert bleu - 10 < low < bleu < high < bleu + 10


def test_the_same_seed_draws_the_same(lines: list[str]) -> None:
    systems = [garbled(lines, 0.1, seed=3)]
    first, again, other = (bootstrap(systems, lines, seed=seed) for seed in (1, 1, 2))
    assert first.intervals == again.intervals != other.intervals


def test_a_difference_that_is_none_and_one_that_is_large(lines: list[str]) -> None:
    good, bad = garbled(lines, 0.1, seed=4), garbled(lines, 0.2, seed=6)
    p_values = bootstrap([good, good, bad], lines).p_values
    np.testing.assert_array_equal(p_values, p_values.T)
    assert p_values[0, 1] == 1  # the same translations
    assert p_values[0, 2] < 0.01


def test_p_values_of_chance_alone_are_spread_evenly(lines: list[str]) -> None:
    systems = [garbled(lines, 0.1, seed) for seed in range(12)]  # none is better
    p_values = bootstrap(systems, lines, resamples=300).p_values[np.triu_indices(12, k=1)]
    assert 0.3 < np.median(p_values) < 0.7
    assert np.mean(p_values < 0.05) < 0.15


def test_p_values_are_about_those_of_approximate_randomisation(lines: list[str]) -> None:
    systems = [garbled(lines, share, seed) for seed, share in enumerate((0.1, 0.1, 0.11, 0.12))]
    named = [(str(number), system) for number, system in enumerate(systems)]
    test = PairedTest(named, {"BLEU": BLEU()}, [lines], test_type="ar", n_samples=1000)
    _, theirs = test()
    ours = bootstrap(systems, lines)
    assert ours.bleu == pytest.approx([result.score for result in theirs["BLEU"]])
    p_values = [result.p_value for result in theirs["BLEU"][1:]]
    assert any(0.1 < p < 0.9 for p in p_values)
    np.testing.assert_allclose(ours.p_values[0, 1:], p_values, atol=0.05)
