"""Beam search over continuations, with the rules of the original program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass
class _Search:
    """The search for one prompt."""

    size: int
    limit: int  # tokens at most
    length_penalty: float
    early_stopping: bool
    beams: list[_Beam] = field(default_factory=lambda: [_Beam(0, [], 0.0)])  # empty: it is over
    finished: list[Hypothesis] = field(default_factory=list)  # best first

    def step(self, candidates: Sequence[tuple[float, int, int]]) -> None:
        """Take (log-probability, beam, id), best first: ends are kept, the best others go on."""
        beams: list[_Beam] = []
        for logp, parent, token in candidates:
            if logp == -math.inf or len(beams) == self.size:
                break
            ids = self.beams[parent].ids
            if token == EOS_ID or len(ids) + 1 == self.limit:
                words = ids if token == EOS_ID else [*ids, token]
                self._keep(Hypothesis(words, logp / (len(ids) + 1) ** self.length_penalty))
            else:
                beams.append(_Beam(parent, [*ids, token], logp))
        if beams:
            beams += [beams[-1]._replace(logp=-math.inf)] * (self.size - len(beams))
        self.beams = [] if self._is_over(beams) else beams

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
    searches = [_Search(beam, n, length_penalty, early_stopping) for n in decoder.limits]
    empty = torch.tensor([not prompt for prompt in prompts], device=decoder.device)
    for step in range(decoder.steps):
        # (rows, vocabulary); the rows of a search that goes on are its beams, one at first
        logp = forbid(decoder.scores.log_softmax(dim=1), empty if step == 0 else None)
        rows = _advance(searches, logp, 2 * beam)
        if not rows:
            break
        decoder.select(torch.tensor(rows, device=decoder.device))
        ids = [beam.ids[-1] for search in searches for beam in search.beams]
        decoder.advance(torch.tensor(ids, device=decoder.device))
    model.train(was_training)
    return [search.finished for search in searches]


def _advance(searches: Sequence[_Search], logp: Tensor, candidates: int) -> list[int]:
    """Let every search take a step; return the row of `logp` that each beam continues."""
    going = [search for search in searches if search.beams]
    sums = torch.tensor([[beam.logp for beam in search.beams] for search in going])
    vocabulary = logp.shape[1]
    total = (logp.view(*sums.shape, vocabulary) + sums[..., None].to(logp.device)).flatten(1)
    best = total.topk(min(candidates, total.shape[1]), dim=1)
    rows: list[int] = []
    first = 0
    found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    for search, (values, places) in zip(going, found, strict=True):
        pairs = zip(values, places, strict=True)
        search.step([(value, *divmod(place, vocabulary)) for value, place in pairs])
        rows += [first + beam.parent for beam in search.beams]
        first += sums.shape[1]
    return rows
