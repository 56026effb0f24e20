"""`suite=bias`: what a model finds more probable of one group of people than of another.

Templates, contrasts and items stand in `bias_LANGUAGE.yaml`. The gap of a sentence is ln p with the
first word of a contrast less ln p with the second. How common either is by itself is no matter: of
each template and contrast the mean over all items is taken off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import product
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from xlm_lightning.sentence_scores import Ids, log_odds
from xlm_lightning.suites.results import (
    Findings,
    Measurement,
    Row,
    interval,
    mean,
    resampled_means,
)
from xlm_lightning.suites.subject import Subject
from xlm_lightning.text.bpe import CONTINUED
from xlm_lightning.text.vocabulary import UNK

Pairs = list[tuple[Ids, Ids]]
TEMPLATES = ("de", "en")  # languages that have some
MOST_PIECES = 3  # of a word; one in more has hardly been read in training
FEWEST_ITEMS = 4  # of each group
FEWEST_FRAMES = 6  # templates times contrasts
_SCORED = {
    True: "the whole sentence",
    False: "the words in which the two sentences differ, hidden, given the rest",
}


@dataclass(frozen=True)
class Probe:
    """One question in one language, as its file puts it."""

    name: str
    language: str
    title: str
    asks: str
    templates: Sequence[str]
    contrasts: Sequence[Sequence[str]]  # [first, second]
    items: Mapping[str, Sequence[str]]  # group -> items

    def spelled(self, subject: Subject) -> Probe:
        """What of it the vocabulary can spell."""

        def known(text: str) -> bool:
            return _is_spelled(text, self.language, subject)

        return replace(
            self,
            templates=[t for t in self.templates if known(t.format(item="", contrast=""))],
            contrasts=[sides for sides in self.contrasts if all(map(known, sides))],
            items={group: [*filter(known, items)] for group, items in self.items.items()},
        )

    @property
    def frames(self) -> list[tuple[str, Sequence[str]]]:
        """Every template with every contrast."""
        return list(product(self.templates, self.contrasts))

    @property
    def all_items(self) -> list[str]:
        """The items of all groups."""
        return [item for group in self.items.values() for item in group]

    @property
    def counts(self) -> list[int]:
        """How many templates, contrasts and items."""
        return [len(self.templates), len(self.contrasts), len(self.all_items)]

    @property
    def is_enough(self) -> bool:
        """Whether a figure would say anything."""
        fewest = min(map(len, self.items.values()))
        return fewest >= FEWEST_ITEMS and len(self.frames) >= FEWEST_FRAMES


def bias(subject: Subject) -> Findings:
    """Every probe in every language that has templates."""
    found = Findings()
    for language in subject.languages:
        if language not in TEMPLATES:
            found.limits.append(f"There are no templates for {language}.")
            continue
        for probe in read_probes(language):
            _add_probe(probe, subject, found)
    found.limits += _LIMITS
    return found


def read_probes(language: str) -> list[Probe]:
    """The probes of a language."""
    text = (files("xlm_lightning.suites") / f"bias_{language}.yaml").read_bytes()
    read: Mapping[str, Mapping[str, Any]] = yaml.safe_load(text)
    return [Probe(name, language, **content) for name, content in read.items()]


def gaps(probe: Probe, pairs: Pairs, series: str, subject: Subject) -> NDArray[np.float64]:
    """(items, frames) of ln p(first of the contrast) - ln p(second), less the mean over items."""
    language = subject.languages.index(probe.language)
    odds = log_odds(subject.models[series], pairs, language, causal=subject.causal)
    table = odds.reshape(-1, len(probe.frames))
    centred: NDArray[np.float64] = table - table.mean(axis=0)
    return centred


def _pairs(probe: Probe, subject: Subject) -> Pairs:
    """Both sides of every contrast in every sentence, but for those too long for the model."""
    pairs: Pairs = []
    for item in probe.all_items:
        for template, sides in probe.frames:
            first, second = (
                subject.sentence(template.format(item=item, contrast=side), probe.language)
                for side in sides
            )
            if first is not None and second is not None:
                pairs.append((first, second))
    return pairs


def _add_probe(asked: Probe, subject: Subject, found: Findings) -> None:
    probe = asked.spelled(subject)
    title = f"{asked.title} ({asked.language})"
    if probe.counts != asked.counts:
        kept = zip(probe.counts, asked.counts, ("templates", "contrasts", "items"), strict=True)
        parts = ", ".join(f"{few} of {all_of} {what}" for few, all_of, what in kept)
        found.limits.append(
            f"{title}: the vocabulary spells {parts}, every word without <unk> and in at most "
            f"{MOST_PIECES} pieces; the others are left out."
        )
    if not probe.is_enough:
        found.limits.append(
            f"{title}: too little is left for a figure (at least {FEWEST_ITEMS} items of each "
            f"group, {FEWEST_FRAMES} templates times contrasts)."
        )
        return
    pairs = _pairs(probe, subject)
    if len(pairs) < len(probe.all_items) * len(probe.frames):
        found.limits.append(f"{title} is left out: its sentences are too long for the model.")
        return
    by_series = {series: gaps(probe, pairs, series, subject) for series in subject.models}
    found.tests.append(_each_item(probe, title, by_series, subject))
    if len(probe.items) == 2:
        found.tests.append(between_groups(probe, title, by_series, subject.seed))


def _each_item(
    probe: Probe, title: str, by_series: Mapping[str, NDArray[np.float64]], subject: Subject
) -> Measurement:
    return Measurement(
        name=f"{probe.name}_{probe.language}",
        title=title,
        method=f"For each item {probe.asks}, in nats over the mean of all items: ln p of "
        f"{_SCORED[subject.causal]}, {len(probe.templates)} templates with {len(probe.contrasts)} "
        "contrasts each; bootstrap over these.",
        metric="log-probability gap",
        unit="nats",
        chance=0.0,
        rows=[
            mean(series, item, values, subject.seed)
            for series, table in by_series.items()
            for item, values in zip(probe.all_items, table, strict=True)
        ],
    )


def between_groups(
    probe: Probe, title: str, by_series: Mapping[str, NDArray[np.float64]], seed: int
) -> Measurement:
    """The mean gap of the first group of items less that of the second."""
    first, second = probe.items
    split = len(probe.items[first])
    rows = []
    for series, table in by_series.items():
        per_item = table.mean(axis=1)
        one, other = per_item[:split], per_item[split:]
        low, high = interval(resampled_means(one, seed) - resampled_means(other, seed, 1))
        value = float(one.mean() - other.mean())
        rows.append(Row(series, probe.language, None, value, low, high, len(per_item)))
    return Measurement(
        name=f"{probe.name}_{probe.language}_difference",
        title=f"{title}: difference between two lists",
        method=f"Mean gap of the items {first}, less that of those {second}; bootstrap over the "
        "items of both. Above 0: the model leans the way the world is said to.",
        metric="log-probability gap",
        unit="nats",
        chance=0.0,
        rows=rows,
    )


def _is_spelled(text: str, language: str, subject: Subject) -> bool:
    """Whether no word of a text is unknown, or in more than `MOST_PIECES` pieces."""
    ids = subject.pipelines[language].encode(text)
    run = longest = 1
    for token in ids:
        run = run + 1 if subject.vocabulary.token(token).endswith(CONTINUED) else 1
        longest = max(longest, run)
    return UNK not in ids and longest <= MOST_PIECES


_LIMITS = [
    "A probe of this kind shows associations of words in a few made-up sentences. It does not "
    "measure harm, and finding nothing does not show that a model is free of bias.",
    "Two genders and a dozen nationalities are asked for, in our own short lists; who is absent "
    "from them is not therefore treated well.",
    "A gap may come from how often words occur together in the text, from facts, or from spelling "
    "in several pieces; compare it with the rows of random weights, and with its interval.",
    "Intervals (bootstrap, 95 %) are of templates and items alone: another training run, or other "
    "lists, would differ by more.",
]
