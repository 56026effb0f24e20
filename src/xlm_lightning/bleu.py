"""How good translations are: BLEU and chrF of sacrebleu, the original's BLEU on tokens, and how
sure one can be of a difference.

sacrebleu takes 0.1 s to import, which only a run that translates should spend: it comes late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU, BLEUScore

RESAMPLES = 1000  # Koehn 2004, and sacrebleu's own default
_ORDERS = 4  # n-grams of BLEU


def corpus_scores(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Return `bleu` and `chrf` (0 to 100) of readable text, cased, and the `signatures` of both.

    BLEU cuts the text by itself, with the rules of mteval-v13a, so that figures of different
    programs compare; where an order of n-grams has no hit it is smoothed. Line k of one is a
    translation of line k of the other; there must be one.
    """
    from sacrebleu.metrics.bleu import BLEU  # see the module
    from sacrebleu.metrics.chrf import CHRF

    # force: a text whose lines often end in " ." draws a warning, not another score
    metrics: dict[str, BLEU | CHRF] = {"bleu": BLEU(force=True), "chrf": CHRF()}
    scores: dict[str, Any] = {
        name: float(metric.corpus_score(hypotheses, [references]).score)
        for name, metric in metrics.items()
    }
    signatures = {name: str(metric.get_signature()) for name, metric in metrics.items()}
    return {**scores, "signatures": signatures}


def signatures() -> dict[str, str]:
    """What `corpus_scores` and `tokenised_bleu` do, in sacrebleu's shorthand: to be told with each
    figure."""
    found: dict[str, str] = corpus_scores(["a"], ["a"])["signatures"]
    metric = _as_multi_bleu()
    metric.corpus_score(["a"], [["a"]])  # without a score sacrebleu counts no references
    return {**found, "bleu_tokenised": str(metric.get_signature())}


def tokenised_bleu(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> float:
    """Return BLEU (0 to 100) as multi-bleu.perl counts it, which is the original's: cased, of words
    as they are given, not smoothed, so that an order of n-grams without a hit makes it 0."""
    written = [" ".join(words) for words in hypotheses]
    expected = [" ".join(words) for words in references]
    return float(_as_multi_bleu().corpus_score(written, [expected]).score)


def _as_multi_bleu() -> BLEU:
    from sacrebleu.metrics.bleu import BLEU  # see the module

    return BLEU(tokenize="none", smooth_method="none", force=True)


@dataclass(frozen=True)
class Bootstrap:
    """BLEU of several systems that translated the same sentences, and how far chance may go."""

    bleu: list[float]  # of all sentences, as `corpus_scores` gives it
    intervals: list[tuple[float, float]]  # 95 % of the resamples lie within
    p_values: NDArray[np.float64]  # (systems, systems): of the difference of two
    drawn: NDArray[np.float64]  # (systems, resamples): BLEU of each draw


def bootstrap(
    systems: Sequence[Sequence[str]],
    references: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """Draw the sentences again, with repetition, and see how much BLEU moves (Koehn 2004).

    It takes a second for 6,000 sentences of a system, most of it for counting n-grams (measured).
    All systems meet the same draws, so what is hard for all of them does not blur a difference. A
    p-value is the share of draws whose difference is as far from the mean of all draws as the
    observed one is from 0, in either direction. sacrebleu's paired bootstrap takes absolute values
    before the mean, as a script of Moses does, and its p-values are about half of these: too small.
    Those of its other test, by randomisation, agree with ours.
    """
    sentences = len(references)
    drawn = np.random.default_rng(seed).multinomial(
        sentences, np.full(sentences, 1 / sentences), size=resamples
    )  # (resamples, sentences): how often each one was drawn
    observed, scores = [], []
    for hypotheses in systems:
        counts = _counts(hypotheses, references)
        observed.append(_bleu(counts.sum(axis=0)))
        scores.append([_bleu(row) for row in drawn @ counts])
    bleu, resampled = np.array(observed), np.array(scores)  # (systems,), (systems, resamples)
    as_far = []  # (systems, systems), a row at a time: memory does not grow with its square
    for own, its in zip(bleu, resampled, strict=True):
        differences = its - resampled
        chance = np.abs(differences - differences.mean(axis=1, keepdims=True))
        as_far.append((chance >= np.abs(own - bleu)[:, None]).sum(axis=1))
    p_values = (np.array(as_far) + 1) / (resamples + 1)
    return Bootstrap(observed, [interval(row) for row in resampled], p_values, resampled)


def interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of the figures of all draws."""
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return low, high


def _counts(hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """What BLEU adds up, (sentences, 10): both lengths, hits and totals of each order of n-grams.

    Taken from the scores of single sentences: their own BLEU is of no interest.
    """
    from sacrebleu.metrics.bleu import BLEU  # see the module

    metric = BLEU(effective_order=True, force=True)  # without the first it warns
    scores: list[BLEUScore] = [
        metric.sentence_score(hypothesis, [reference])
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    rows = [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in scores]
    return np.array(rows, np.int64)


def _bleu(counts: NDArray[np.int64]) -> float:
    """BLEU of a sum of rows of `_counts`."""
    from sacrebleu.metrics.bleu import BLEU  # see the module

    length, wanted = counts[:2].tolist()
    hits, totals = counts[2:].reshape(2, _ORDERS).tolist()
    score = BLEU.compute_bleu(hits, totals, length, wanted, smooth_method="exp").score
    return float(score)
