"""Masked language modelling: which tokens a batch hides, as a pure function of (seed, slot).

Of the real tokens of a row, its first one left out, a share is predicted; the model sees most of
them as the mask, some as a random token and some as they are (Devlin et al. 2019; the shares of
Conneau & Lample 2019, section 3.3). With word weights exactly that share is drawn, rare words more
often (the original's `sample_alpha`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm_lightning.streaming.philox import EVALUATION_MASKS, MASKS, uniforms

MASK = 5  # as in xlm_lightning.text.vocabulary; streaming knows nothing of text
EVALUATED_SHARE = 0.15  # of the tokens, whatever a run hides in training

Tokens = NDArray[np.uint16]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Masking:
    """How much is hidden, and how."""

    share: float  # of the tokens that can be predicted
    masked: float  # of the predicted ones: seen as the mask
    random: float  # seen as any token of the vocabulary; the rest is seen as it is
    frequency_alpha: float  # 0: all tokens alike; else p ~ max(count, 1)^-alpha, specials never
    counts: Sequence[int]  # of every token id in the vocabulary's text, 0 for specials

    def shares(self) -> dict[str, float]:
        """All but the counts: what a resumed run must have alike."""
        return {
            "share": self.share,
            "masked": self.masked,
            "random": self.random,
            "frequency_alpha": self.frequency_alpha,
        }

    def mask(self, tokens: Tokens, real: NDArray[np.bool_], seed: int, slot: int) -> Masked:
        """Hide tokens of `tokens` (batch, time); `real` is False where there is padding."""
        chances = uniforms((3, *tokens.shape), seed, MASKS, slot)
        candidates = real.copy()
        candidates[:, 0] = False
        chosen = self._choose(tokens, candidates, chances[0])
        places = np.flatnonzero(chosen)
        targets = tokens.reshape(-1)[places]
        kind = chances[1].reshape(-1)[places]
        any_token = chances[2].reshape(-1)[places] * len(self.counts)
        seen = np.where(kind < self.masked, np.uint16(MASK), targets)
        at_random = (kind >= self.masked) & (kind < self.masked + self.random)
        seen = np.where(at_random, any_token.astype(np.uint16), seen)
        inputs = tokens.copy()
        inputs.reshape(-1)[places] = seen
        return Masked(inputs, places, targets.astype(np.int64))

    def _choose(
        self, tokens: Tokens, candidates: NDArray[np.bool_], chances: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        if not self.frequency_alpha:
            return _at_least_one(chances < self.share, candidates, chances)
        counts = np.asarray(self.counts, np.float64)
        weights = np.where(counts > 0, np.maximum(counts, 1) ** -self.frequency_alpha, 0.0)
        allowed = candidates & (weights[tokens] > 0)
        wanted = int(np.ceil(self.share * candidates.sum()))
        # Exponential waiting times: the first `wanted` events are a draw without replacement.
        with np.errstate(divide="ignore"):
            waiting = np.where(allowed, -np.log1p(-chances) / weights[tokens], np.inf)
        order = np.argsort(waiting, axis=None, kind="stable")[: min(wanted, int(allowed.sum()))]
        chosen = np.zeros(tokens.shape, bool)
        chosen.reshape(-1)[order] = True
        return chosen if len(order) else _at_least_one(chosen, candidates, chances)


@dataclass(frozen=True)
class Masked:
    """What a model sees, and what it is asked."""

    inputs: Tokens  # (batch, time)
    places: Places  # (n,) of the predicted tokens in the flattened inputs
    targets: Places  # (n,) what stood there


def mask_for_evaluation(
    tokens: Tokens, real: NDArray[np.bool_], text: int, numbers: Places
) -> Masked:
    """Hide a share of each row, always as the mask and at least one token (as in the original).

    `tokens` (batch, time) are the rows `numbers` (batch,) of text number `text`: the same tokens
    are hidden whatever the batch size, the number of ranks, or the seed of the run.
    """
    chosen = np.zeros(tokens.shape, bool)
    for row, number in enumerate(numbers.tolist()):
        chances = uniforms((tokens.shape[1],), 0, EVALUATION_MASKS, text, number)
        candidates = real[row].copy()
        candidates[0] = False
        chosen[row] = _at_least_one(chances < EVALUATED_SHARE, candidates, chances)
    places = np.flatnonzero(chosen)
    inputs = tokens.copy()
    inputs.reshape(-1)[places] = MASK
    return Masked(inputs, places, tokens.reshape(-1)[places].astype(np.int64))


def _at_least_one(
    chosen: NDArray[np.bool_], candidates: NDArray[np.bool_], chances: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The chosen candidates; if there are none, the one that was nearest to it."""
    result = chosen & candidates
    if not result.any() and candidates.any():
        nearest = np.where(candidates, chances, np.inf).argmin()
        result.reshape(-1)[nearest] = True
    return result
