"""Beam search over continuations, of a prompt or of a source, with the original's rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from xlm_lightning.generation.decoder import EOS_ID, Decoder, Rows, forbid
from xlm_lightning.model import XLM


class Hypothesis(NamedTuple):
    """A finished continuation: ids before `</s>`, and sum of log-probabilities / tokens**penalty.

    The tokens that count are those that the model was asked for: `</s>` as well, where it ended.
    """

    ids: list[int]
    score: float


class _Beam(NamedTuple):
    """A continuation that goes on; with a logp of -inf it only fills the batch."""

    parent: int  # which of its search's beams it continues
    ids: list[int]
    logp: float
    greedy: bool = False  # always the most probable token


@dataclass
class _Search:
    """The search for one prompt."""

    size: int
    limit: int  # tokens at most
    length_penalty: float
    early_stopping: bool
    keep_greedy: bool  # in a place of its own beside the others
    beams: list[_Beam] = field(default_factory=lambda: [_Beam(0, [], 0.0, True)])  # empty: over
    finished: list[Hypothesis] = field(default_factory=list)  # best first

    def step(self, candidates: Sequence[_Beam]) -> None:
        """Take candidates, best first: ends are kept, the best others go on."""
        beams: list[_Beam] = []
        for one in candidates:
            if one.logp == -math.inf:
                break
            if len(beams) >= self.size and not one.greedy:
                continue
            if one.ids[-1] == EOS_ID or len(one.ids) == self.limit:
                words = one.ids[:-1] if one.ids[-1] == EOS_ID else one.ids
                self._keep(Hypothesis(words, one.logp / len(one.ids) ** self.length_penalty))
            else:
                beams.append(one)
        if beams:
            width = self.size + self.keep_greedy
            beams += [beams[-1]._replace(logp=-math.inf)] * (width - len(beams))
        self.beams = [] if self._is_over(beams) else beams

    def continued(self, logp: float, parent: int, token: int) -> _Beam:
        """A candidate."""
        return _Beam(parent, [*self.beams[parent].ids, token], logp)

    def _keep(self, hypothesis: Hypothesis) -> None:
        self.finished.append(hypothesis)
        self.finished.sort(key=lambda kept: -kept.score)
        del self.finished[self.size :]

    def _is_over(self, beams: Sequence[_Beam]) -> bool:
        """Whether nothing that goes on can still be kept (`early_stopping`: enough are kept)."""
        if len(self.finished) < self.size or not beams:
            return not beams
        best_to_come = beams[0].logp / self.limit**self.length_penalty
        return self.early_stopping or self.finished[-1].score >= best_to_come


@torch.inference_mode()
def beam_search(
    model: XLM,
    prompts: Sequence[Sequence[int]],
    *,
    language: int,
    beam: int,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    max_new_tokens: int = 64,
) -> list[list[Hypothesis]]:
    """The `beam` best continuations found of each prompt (ids without `</s>`), best first.

    Each step looks at the 2 * beam best candidates, so that `beam` of them can go on even if all
    the others end. A search is over when no unfinished one can reach a kept one any more, or with
    `early_stopping` when `beam` have ended. Other than the original's, a hypothesis that is cut
    off at the limit keeps its last word. A text that would be empty is not considered.
    """
    was_training = model.training
    model.eval()
    decoder = Decoder(model, prompts, language=language, max_new_tokens=max_new_tokens)
    empty = torch.tensor([not prompt for prompt in prompts], device=decoder.device)
    searches = [_Search(beam, n, length_penalty, early_stopping, False) for n in decoder.limits]
    _search(decoder, searches, empty)
    model.train(was_training)
    return [search.finished for search in searches]


def beam_search_from(
    decoder: Rows, *, beam: int, length_penalty: float, early_stopping: bool
) -> list[list[Hypothesis]]:
    """The same for rows of any kind, all of them without a word yet.

    The greedy continuation has a place of its own beside the beam: without it a search can end
    below greedy on its own score (2 of 400 with a beam of 5). Only with
    `early_stopping` it still can, if others end first.
    """
    searches = [_Search(beam, n, length_penalty, early_stopping, True) for n in decoder.limits]
    _search(decoder, searches, torch.ones(len(searches), dtype=torch.bool, device=decoder.device))
    return [search.finished for search in searches]


def _search(decoder: Rows, searches: Sequence[_Search], empty: Tensor) -> None:
    for step in range(decoder.steps):
        # (rows, vocabulary); the rows of a search that goes on are its beams, one at first
        logp = forbid(decoder.scores.log_softmax(dim=1), empty if step == 0 else None)
        rows = _advance(searches, logp)
        if not rows:
            break
        decoder.select(torch.tensor(rows, device=decoder.device))
        ids = [beam.ids[-1] for search in searches for beam in search.beams]
        decoder.advance(torch.tensor(ids, device=decoder.device))


def _advance(searches: Sequence[_Search], logp: Tensor) -> list[int]:
    """Let every search take a step; return the row of `logp` that each beam continues."""
    going = [search for search in searches if search.beams]
    sums = torch.tensor([[beam.logp for beam in search.beams] for search in going])
    vocabulary = logp.shape[1]
    totals = logp.view(*sums.shape, vocabulary) + sums[..., None].to(logp.device)
    total = totals.flatten(1)
    best = total.topk(min(2 * going[0].size, total.shape[1]), dim=1)
    likeliest = totals.max(dim=2) if going[0].keep_greedy else None
    rows: list[int] = []
    first = 0
    found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    for number, (search, (values, places)) in enumerate(zip(going, found, strict=True)):
        candidates = [
            search.continued(value, *divmod(place, vocabulary))
            for value, place in zip(values, places, strict=True)
        ]
        if likeliest is not None:
            row = likeliest.values[number].tolist(), likeliest.indices[number].tolist()
            candidates = _with_greedy(search, candidates, *row)
        search.step(candidates)
        rows += [first + beam.parent for beam in search.beams]
        first += sums.shape[1]
    return rows


def _with_greedy(
    search: _Search, candidates: list[_Beam], logps: Sequence[float], tokens: Sequence[int]
) -> list[_Beam]:
    """The candidates, the greedy one among them, while it goes on: best first.

    `logps` and `tokens`: of each beam's most probable continuation.
    """
    for parent, before in enumerate(search.beams):
        if before.greedy and before.logp > -math.inf:
            greedy = search.continued(logps[parent], parent, tokens[parent])
            others = [one for one in candidates if (one.parent, one.ids) != (parent, greedy.ids)]
            kept = [*others, greedy._replace(greedy=True)]
            return sorted(kept, key=lambda one: -one.logp)
    return candidates
