"""Word translation: is the nearest word of the other language, by its embedding, a translation?

Pairs that are spelled the same share a row of the embedding matrix, so they say nothing: they are
counted apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from xlm_lightning.errors import UserError
from xlm_lightning.model import XLM
from xlm_lightning.suites.results import Findings, Measurement, Row, share
from xlm_lightning.suites.subject import Subject
from xlm_lightning.text.files import read_text_lines

FEWEST = 20  # words; the interval of fewer says nothing
_METHOD = (
    "For each word that is one piece of the vocabulary, the {k} of the other language's {words} "
    "words whose input embeddings have the largest cosine with its own (no CSLS); a hit if a "
    "translation is there. Words spelled like a translation of theirs are left out."
)


@dataclass(frozen=True)
class _Direction:
    """Words of one language, and where their translations stand among those of the other."""

    name: str
    sources: list[int]  # ids
    candidates: list[int]  # ids
    right: Tensor  # bool (sources, candidates)

    def hits(self, model: XLM, best: int) -> int:
        """Words with a translation among their `best` nearest candidates."""
        rows = F.normalize(model.tokens.weight.detach().float(), dim=1).cpu()
        cosine = rows[self.sources] @ rows[self.candidates].T
        # a word of both languages would find itself
        itself = torch.tensor(self.sources)[:, None] == torch.tensor(self.candidates)
        nearest = cosine.masked_fill(itself, -2).topk(best, dim=1).indices
        return int(self.right.gather(1, nearest).any(dim=1).sum())

    def chance(self, best: int) -> float:
        """Share of hits of `best` candidates drawn at random."""
        wrong = (~self.right).sum(dim=1).double()
        total = self.right.shape[1]
        miss = torch.ones_like(wrong)
        for drawn in range(best):
            miss *= (wrong - drawn).clamp(min=0) / (total - drawn)
        return float((1 - miss).mean())


def add_word_translation(
    subject: Subject, languages: Sequence[str], pairs: Sequence[tuple[str, str]], found: Findings
) -> None:
    """Precision at 1 and at 5 in both directions, and how many pairs are spelled the same."""
    single = _single_pieces(subject, languages, pairs)
    if not single:
        found.limits.append("Word translation: no pair of the dictionary is two single pieces.")
        return
    same = {ids for words, ids in single.items() if words[0] == words[1]}
    spelled = share("dictionary", "-".join(languages), len(same), len(single))
    found.tests.append(
        Measurement(
            name="identical_words",
            title="Words spelled the same in both languages",
            method=f"Of the {len(pairs)} pairs of the dictionary, those that are two single pieces "
            "of the vocabulary, and of these the share spelled the same: translations for free, "
            "which the other figures leave out.",
            metric="share of pairs",
            unit="share",
            chance=None,
            rows=[spelled],
        )
    )
    ids = set(single.values())
    turned = {(second, first) for first, second in ids}
    directions = [
        _direction(f"{languages[0]}→{languages[1]}", ids),
        _direction(f"{languages[1]}→{languages[0]}", turned),
    ]
    fewest = min(len(direction.sources) for direction in directions)
    if fewest < FEWEST:
        found.limits.append(
            f"Word translation: only {fewest} words are single pieces and spelled unlike their "
            f"translations; no figure is given for fewer than {FEWEST}."
        )
        return
    found.tests += [_precision(subject, directions, best) for best in (1, 5)]


def read_dictionary(path: Path) -> list[tuple[str, str]]:
    """Tab-separated `word word` lines; `UserError` that names the first other one."""
    pairs = []
    for number, line in enumerate(read_text_lines(path, "dictionary"), start=1):
        words = line.split("\t")
        if len(words) != 2 or not all(word.strip() for word in words):
            raise UserError(
                f"dictionary={path}, line {number}: must be a word, a tab and its translation"
            )
        pairs.append((words[0].strip(), words[1].strip()))
    return pairs


def _single_pieces(
    subject: Subject, languages: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], tuple[int, int]]:
    pieces = {}
    for pair in pairs:
        first, second = (
            subject.piece(word, language) for word, language in zip(pair, languages, strict=True)
        )
        if first is not None and second is not None:
            pieces[pair] = first, second
    return pieces


def _direction(name: str, ids: set[tuple[int, int]]) -> _Direction:
    candidates = sorted({second for _, second in ids})
    place = {token: column for column, token in enumerate(candidates)}
    like_itself = {first for first, second in ids if first == second}
    sources = sorted({first for first, _ in ids} - like_itself)
    right = torch.zeros(len(sources), len(candidates), dtype=torch.bool)
    row = {token: number for number, token in enumerate(sources)}
    for first, second in ids:
        if first in row:
            right[row[first], place[second]] = True
    return _Direction(name, sources, candidates, right)


def _precision(subject: Subject, directions: Sequence[_Direction], best: int) -> Measurement:
    rows: list[Row] = [
        share(series, direction.name, direction.hits(model, best), len(direction.sources))
        for series, model in subject.models.items()
        for direction in directions
    ]
    words = " and ".join(str(len(direction.candidates)) for direction in directions)
    return Measurement(
        name="word_translation" if best == 1 else f"word_translation_{best}",
        title=f"Word translation from embeddings, best {best}",
        method=_METHOD.format(k=best, words=words),
        metric=f"precision_at_{best}",
        unit="share",
        chance=sum(direction.chance(best) for direction in directions) / len(directions),
        rows=rows,
    )
