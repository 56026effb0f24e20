"""Sentences as the rows of a batch: `</s> sentence </s>`, padded behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm_lightning.streaming.philox import Indices

EOS, PAD = 1, 2  # as in xlm_lightning.text.vocabulary; streaming knows nothing of text

Tokens = NDArray[np.uint16]


@dataclass(frozen=True)
class Rows:
    """Sentences of one language."""

    tokens: Tokens  # (batch, time)
    lengths: Indices  # (batch,) real tokens, both </s> among them

    @property
    def inner(self) -> NDArray[np.bool_]:
        """(batch, time): True between the two `</s>`."""
        places = np.arange(self.tokens.shape[1])
        mask: NDArray[np.bool_] = (places > 0) & (places < self.lengths[:, None] - 1)
        return mask


def rows_of(lines: Sequence[Tokens]) -> Rows:
    """A row of each line, which ends with its `</s>`; no lines make no rows."""
    lengths = np.array([len(line) + 1 for line in lines], np.int64)
    tokens = np.full((len(lines), int(lengths.max(initial=0))), PAD, np.uint16)
    tokens[:, :1] = EOS
    for row, line in enumerate(lines):
        tokens[row, 1 : len(line) + 1] = line
    return Rows(tokens, lengths)
