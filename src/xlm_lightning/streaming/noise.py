"""Noise of a denoising auto-encoder: what a model sees of a sentence that it is to restore.

As in the original (Lample et al. 2018; Conneau & Lample 2019), on BPE pieces and in this order:
tokens change places with near ones, some are dropped, some are seen as the mask. All of it is a
pure function of (seed, slot).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from xlm_lightning.streaming.masking import MASK
from xlm_lightning.streaming.philox import NOISE, uniforms
from xlm_lightning.streaming.rows import PAD, Rows

Chances = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """How much of it; a share of 0 leaves that kind out."""

    shuffle: float = 3  # sorted by place + U(0, shuffle): nobody moves further than this
    drop: float = 0.1  # of the tokens, but for one of each sentence
    blank: float = 0.1  # of those that are left

    def shares(self) -> dict[str, float]:
        """What a resumed run must have alike."""
        return asdict(self)

    def of(self, rows: Rows, seed: int, slot: int) -> Rows:
        """The rows with noise between their two `</s>`."""
        chances = uniforms((3, *rows.tokens.shape), seed, NOISE, slot)
        return self._blanked(
            self._thinned(self._shuffled(rows, chances[0]), chances[1]), chances[2]
        )

    def _shuffled(self, rows: Rows, chances: Chances) -> Rows:
        places = np.arange(rows.tokens.shape[1])
        # No place between the two </s> gets beyond the last one's, nor before the first one's.
        keys = np.where(rows.inner, places + chances * self.shuffle, places + self.shuffle)
        keys[:, 0] = -1
        order = np.argsort(keys, axis=1, kind="stable")
        return Rows(np.take_along_axis(rows.tokens, order, axis=1), rows.lengths)

    def _thinned(self, rows: Rows, chances: Chances) -> Rows:
        inner = rows.inner
        dropped = inner & (chances < self.drop)
        # Of a sentence that would be empty the token stays whose chance was the best.
        empty = np.flatnonzero((dropped == inner).all(axis=1))
        dropped[empty, np.where(inner, chances, -1)[empty].argmax(axis=1)] = False
        lengths = rows.lengths - dropped.sum(axis=1)
        order = np.argsort(dropped, axis=1, kind="stable")[:, : lengths.max(initial=0)]
        tokens = np.take_along_axis(rows.tokens, order, axis=1)
        tokens[np.arange(tokens.shape[1]) >= lengths[:, None]] = PAD  # the dropped came last
        return Rows(tokens, lengths)

    def _blanked(self, rows: Rows, chances: Chances) -> Rows:
        blanked = rows.inner & (chances[:, : rows.tokens.shape[1]] < self.blank)
        return Rows(np.where(blanked, np.uint16(MASK), rows.tokens), rows.lengths)
