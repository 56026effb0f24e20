"""`suite=crosslingual`: what a model has in common for two languages, and what it knows of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.suites.agreement import add_agreement
from xlm_lightning.suites.results import Findings
from xlm_lightning.suites.retrieval import add_sentence_retrieval
from xlm_lightning.suites.subject import Subject
from xlm_lightning.suites.translation import add_word_translation

SAMPLE = ["de", "en"]  # languages of the sample corpus


@dataclass(frozen=True)
class Material:
    """What there is to ask with, besides the model."""

    dictionary: Sequence[tuple[str, str]] | None  # given by the user
    parallel: PairShards | None
    missing: str  # why there is no parallel text
    sample: bool  # whether the corpus is that of the embedded grammar


def crosslingual(subject: Subject, material: Material, sentences: int) -> Findings:
    """Every test for which there is material; what is left out is told in the limits."""
    found = Findings()
    sample = material.sample and subject.languages == SAMPLE
    pairs, names = material.dictionary, frozenset[str]()
    if sample:
        from data_prep.sample.dictionary import proper_names, word_pairs

        pairs, names = pairs or word_pairs(), proper_names()
    if pairs:
        add_word_translation(subject, subject.languages, pairs, found)
    else:
        found.limits.append(
            "Word translation is left out: no dictionary is known for this corpus; give "
            "dictionary=FILE, a word, a tab and its translation a line."
        )
    if material.parallel is not None:
        add_sentence_retrieval(subject, material.parallel, names, sentences, found)
    else:
        found.limits.append(f"Sentence retrieval is left out: {material.missing}.")
    if sample:
        add_agreement(subject, found)
    else:
        found.limits.append(
            "Agreement is left out: its pairs are made by the grammar of the sample corpus."
        )
    if found.tests:
        found.limits += _LIMITS
    return found


_LIMITS = [
    "Random weights are one draw by the seed; other seeds draw other weights, sentences and pairs.",
    "Intervals are of the items alone (Wilson, 95 %): another training run would differ by more.",
    "Cosines of mean hidden states also find sentences by their length and by what words they "
    "share; the rows of random weights tell how far that goes.",
]
