"""Minimal pairs: does the model find a sentence more probable than its copy with a wrong form?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from xlm_lightning.sentence_scores import differing, log_odds
from xlm_lightning.suites.results import Findings, Measurement, share
from xlm_lightning.suites.subject import Subject

PAIRS = 200  # of each phenomenon
FEWEST = 20
_SCORED = {
    True: "the log-probability of the whole sentence",
    False: "the log-probability of the differing tokens, hidden, given the rest",
}


def add_agreement(subject: Subject, found: Findings) -> None:
    """Each phenomenon of the sample grammar in both languages."""
    from data_prep.sample.minimal_pairs import PHENOMENA  # the only corpus that has a grammar

    rows = []
    for language, phenomena in PHENOMENA.items():
        for phenomenon in phenomena:
            pairs = _pairs(subject, phenomenon, language)
            group = f"{language}: {phenomenon}"
            if len(pairs) < FEWEST:
                found.limits.append(
                    f"Agreement, {group}: the vocabulary spells only {len(pairs)} pairs in equal "
                    f"numbers of tokens; no figure is given for fewer than {FEWEST}."
                )
                continue
            forms = {frozenset(map(tuple, _forms(pair))) for pair in pairs}
            number = subject.languages.index(language)
            for series, model in subject.models.items():
                odds = log_odds(model, pairs, number, causal=subject.causal)
                hits = int((odds > 0).sum())
                rows.append(share(series, group, hits, len(pairs), independent=len(forms)))
    if rows:
        found.tests.append(
            Measurement(
                name="agreement",
                title="Agreement: the right form more probable than a wrong one",
                method="Sentences of the sample grammar and copies in which one word has another "
                "form that the grammar refuses, in as many tokens; a hit if "
                f"{_SCORED[subject.causal]} is higher for the right one. Either form of a pair is "
                "right as often; intervals are those of as many items as there are pairs of forms.",
                metric="share of pairs",
                unit="share",
                chance=0.5,
                rows=rows,
            )
        )


def _pairs(
    subject: Subject, phenomenon: str, language: Literal["de", "en"]
) -> Sequence[tuple[list[int], list[int]]]:
    """At most `PAIRS` pairs of equally many tokens: a form of fewer would win for its length."""
    from data_prep.sample.minimal_pairs import minimal_pairs

    pairs = []
    for texts in minimal_pairs(phenomenon, language, subject.seed):
        right, wrong = (subject.sentence(text, language) for text in texts)
        if right is not None and wrong is not None and len(right) == len(wrong):
            pairs.append((right, wrong))
        if len(pairs) == PAIRS:
            break
    return pairs


def _forms(pair: tuple[list[int], list[int]]) -> list[list[int]]:
    """The tokens in which two sentences differ."""
    spans = zip(pair, differing(*pair), strict=True)
    return [sentence[start:stop] for sentence, (start, stop) in spans]
