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
from torch.utils.data import Dataset

from xlm_lightning.streaming.evaluation import EOS, EvaluationBatch
from xlm_lightning.streaming.shards import TokenShards


class OriginalEvaluationBatches(Dataset[EvaluationBatch]):
    """All blocks of a split, language after language in alphabetical order.

    The original scores block by block; here `batch_size` of them at once, which changes no score.
    """

    def __init__(self, shards: TokenShards, batch_size: int) -> None:
        self._shards = shards
        self._blocks = {
            language: -(-shards.length(language) // shards.stream_length)
            for language in shards.languages
        }
        self._batches = [
            (language, range(start, min(start + batch_size, count)))
            for language, count in self._blocks.items()
            for start in range(0, count, batch_size)
        ]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __getitem__(self, index: int) -> EvaluationBatch:
        """Return batch `index`: (batch, stream_length - 1) inputs and their targets."""
        language, blocks = self._batches[index]
        length = self._shards.stream_length
        text_length = self._shards.length(language)
        in_front = 1 + self._blocks[language] * length - text_length  # `</s>` before the text
        start, stop = blocks.start * length - in_front, blocks.stop * length - in_front
        rows = np.full(len(blocks) * length, EOS, np.uint16)
        if stop > 0:
            span = self._shards.read_span(language, max(start, 0), stop)
            rows[len(rows) - len(span) :] = span
        tokens = torch.from_numpy(rows.reshape(len(blocks), length))
        return {
            "tokens": tokens[:, :-1].clone(),
            "targets": tokens[:, 1:].long(),
            "language": self._shards.languages.index(language),
            "slot": index,
        }
