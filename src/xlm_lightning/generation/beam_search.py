"""Beam search over continuations, with the rules of the original program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from xlm_lightning.generation.decoder import EOS_ID, Decoder, forbid
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


class _Candidate(NamedTuple):
    """A beam and one more id."""

    logp: float
    parent: int  # the beam
    token: int


@dataclass
class _Search:
    """The search for one prompt."""

    size: int
    limit: int  # tokens at most
    length_penalty: float
    early_stopping: bool
    greedy: bool  # whether its first beam is the greedy text, which goes on whatever its score
    beams: list[_Beam] = field(default_factory=lambda: [_Beam(0, [], 0.0)])  # empty: it is over
    finished: list[Hypothesis] = field(default_factory=list)  # best first

    def step(self, candidates: list[_Candidate], greedy: _Candidate) -> None:
        """Take candidates, best first: ends are kept, the best others go on.

        `greedy` is the best one of the first beam.
        """
        if self.greedy:
            candidates = [greedy, *(one for one in candidates if one[1:] != greedy[1:])]
            self.greedy = not self._ends(*greedy[1:])
        beams: list[_Beam] = []
        for logp, parent, token in candidates:
            if logp == -math.inf or len(beams) == self.size:
                break
            ids = self.beams[parent].ids
            if self._ends(parent, token):
                words = ids if token == EOS_ID else [*ids, token]
                self._keep(Hypothesis(words, logp / (len(ids) + 1) ** self.length_penalty))
            else:
                beams.append(_Beam(parent, [*ids, token], logp))
        if beams:
            beams += [beams[-1]._replace(logp=-math.inf)] * (self.size - len(beams))
        self.beams = [] if self._is_over(beams) else beams

    def _ends(self, parent: int, token: int) -> bool:
        return token == EOS_ID or len(self.beams[parent].ids) + 1 == self.limit

    def _keep(self, hypothesis: Hypothesis) -> None:
        self.finished.append(hypothesis)
        self.finished.sort(key=lambda kept: -kept.score)
        del self.finished[self.size :]

    def _is_over(self, beams: Sequence[_Beam]) -> bool:
        """Whether nothing that goes on can still be kept (`early_stopping`: enough are kept)."""
        if len(self.finished) < self.size or not beams:
            return not beams
        best_to_come = max(beam.logp for beam in beams) / self.limit**self.length_penalty
        stops_early = self.early_stopping and not self.greedy
        return stops_early or self.finished[-1].score >= best_to_come


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
    found = search(decoder, beam, length_penalty, early_stopping)
    model.train(was_training)
    return found


def search(
    decoder: Decoder,
    beam: int,
    length_penalty: float,
    early_stopping: bool,
    *,
    keep_greedy: bool = False,
) -> list[list[Hypothesis]]:
    """The `beam` best hypotheses found of each row, best first: see `beam_search`.

    `keep_greedy`: the greedy text is one of the beams as long as it goes on, whatever its score.
    So the best hypothesis never scores below it, which a beam alone does not promise: a text that
    is best at last may fall out of the beam on its way.
    """
    searches = [
        _Search(beam, limit, length_penalty, early_stopping, keep_greedy)
        for limit in decoder.limits
    ]
    for step in range(decoder.steps):
        # (rows, vocabulary); the rows of a search that goes on are its beams, one at first
        logp = forbid(decoder.scores.log_softmax(dim=1), decoder.empty if step == 0 else None)
        rows = _advance(searches, logp, 2 * beam)
        if not rows:
            break
        decoder.select(torch.tensor(rows, device=decoder.device))
        ids = [beam.ids[-1] for search in searches for beam in search.beams]
        decoder.advance(torch.tensor(ids, device=decoder.device))
    return [search.finished for search in searches]


def _advance(searches: Sequence[_Search], logp: Tensor, candidates: int) -> list[int]:
    """Let every search take a step; return the row of `logp` that each beam continues."""
    going = [search for search in searches if search.beams]
    sums = torch.tensor([[beam.logp for beam in search.beams] for search in going])
    vocabulary = logp.shape[1]
    total = (logp.view(*sums.shape, vocabulary) + sums[..., None].to(logp.device)).flatten(1)
    best = total.topk(min(candidates, total.shape[1]), dim=1)
    greedy = total[:, :vocabulary].max(dim=1)  # of the first beam
    rows: list[int] = []
    first = 0
    found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    of_first = map(_Candidate, greedy.values.tolist(), repeat(0), greedy.indices.tolist())
    for search, (values, places), first_best in zip(going, found, of_first, strict=True):
        pairs = zip(values, places, strict=True)
        some = [_Candidate(value, *divmod(place, vocabulary)) for value, place in pairs]
        search.step(some, first_best)
        rows += [first + beam.parent for beam in search.beams]
        first += sums.shape[1]
    return rows
