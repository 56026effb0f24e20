"""Evaluation batches in the original's exact definition, to compare perplexities with its own.

The text of a language gets one `</s>` in front and is filled up with more of them in front of that,
to a whole number of blocks; each block of `stream_length` tokens predicts all of its tokens but the
first from those before them, and the very last token of the text is never read. So one token in
`stream_length` is not scored, and each block begins without context. (Original: one stream,
batch size 1, `data/dataset.py` and `evaluation/evaluator.py`.)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from xlm_lightning.streaming.evaluation import EOS, EvaluationBatch
from xlm_lightning.streaming.masked_evaluation import MaskedBatch
from xlm_lightning.streaming.masking import EVALUATED_SHARE, MASK
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import CLM, MLM


class OriginalEvaluationBatches(Dataset[EvaluationBatch]):
    """All blocks of a split, language after language in alphabetical order.

    The original scores block by block; here `batch_size` of them at once, which changes no score.
    """

    def __init__(self, shards: TokenShards, batch_size: int) -> None:
        self._shards = shards
        self.counts = {
            language: -(-shards.length(language) // shards.stream_length)
            for language in shards.languages
        }
        self.batches = [
            (language, range(start, min(start + batch_size, count)))
            for language, count in self.counts.items()
            for start in range(0, count, batch_size)
        ]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __getitem__(self, index: int) -> EvaluationBatch:
        """Return batch `index`: (batch, stream_length - 1) inputs and their targets."""
        language, blocks = self.batches[index]
        tokens = torch.from_numpy(self.rows(language, blocks))
        return {
            "tokens": tokens[:, :-1].clone(),
            "targets": tokens[:, 1:].long(),
            "language": self._shards.languages.index(language),
            "slot": index,
            "objective": CLM,
        }

    def rows(self, language: str, blocks: range) -> NDArray[np.uint16]:
        """(blocks, stream_length) tokens."""
        length = self._shards.stream_length
        text_length = self._shards.length(language)
        in_front = 1 + self.counts[language] * length - text_length  # `</s>` before the text
        start, stop = blocks.start * length - in_front, blocks.stop * length - in_front
        rows = np.full(len(blocks) * length, EOS, np.uint16)
        if stop > 0:
            span = self._shards.read_span(language, max(start, 0), stop)
            rows[len(rows) - len(span) :] = span
        return rows.reshape(len(blocks), length)


class OriginalMaskedBatches(Dataset[MaskedBatch]):
    """The same blocks with tokens hidden as the original's evaluator hides them.

    One numpy `RandomState(0)` a language decides token by token; neither the first nor the last
    token of a block is hidden, always as the mask, and at least one.
    """

    def __init__(self, shards: TokenShards, batch_size: int) -> None:
        self._blocks = OriginalEvaluationBatches(shards, batch_size)
        self._hidden = {
            language: _original_choice(count, shards.stream_length)
            for language, count in self._blocks.counts.items()
        }
        self._languages = shards.languages

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._blocks)

    def __getitem__(self, index: int) -> MaskedBatch:
        """Return batch `index`."""
        language, blocks = self._blocks.batches[index]
        rows = self._blocks.rows(language, blocks)
        places = np.flatnonzero(self._hidden[language][blocks.start : blocks.stop])
        targets = rows.reshape(-1)[places].astype(np.int64)
        rows.reshape(-1)[places] = MASK
        return {
            "tokens": torch.from_numpy(rows),
            "places": torch.from_numpy(places),
            "targets": torch.from_numpy(targets),
            "language": self._languages.index(language),
            "slot": index,
            "objective": MLM,
        }


def _original_choice(blocks: int, length: int) -> NDArray[np.bool_]:
    """(blocks, length): what is hidden, drawn block by block."""
    state = np.random.RandomState(0)
    hidden = np.zeros((blocks, length), bool)
    for row in hidden:
        row[:] = state.rand(length) <= EVALUATED_SHARE
        row[[0, -1]] = False
        if not row.any():
            row[state.randint(1, length - 1)] = True
    return hidden


def original_batches(
    objective: str, shards: TokenShards, batch_size: int
) -> OriginalEvaluationBatches | OriginalMaskedBatches:
    """All batches of a split for `objective`, clm or mlm."""
    if objective == MLM:
        return OriginalMaskedBatches(shards, batch_size)
    return OriginalEvaluationBatches(shards, batch_size)
