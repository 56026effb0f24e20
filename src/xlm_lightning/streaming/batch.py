"""What a batch tells a model: arrays of rows become the named tensors of a micro-batch."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from xlm_lightning.streaming.masking import Masked
from xlm_lightning.streaming.pairs import PairRows
from xlm_lightning.streaming.rows import Rows


class TrainBatch(TypedDict, total=False):
    """The rows of one slot. Some are there for some objectives only."""

    tokens: Tensor  # uint16 (batch, time), hidden ones replaced; ae, bt, mt: to be reached
    places: Tensor  # mlm, tlm: int64 (n,) of the hidden tokens in the flattened batch
    targets: Tensor  # mlm, tlm: int64 (n,) what stood there
    language: int  # of all tokens; not for tlm
    pair: int  # tlm: of languages; mt: which of the `directions`
    languages: Tensor  # tlm: int64 (batch, time)
    positions: Tensor  # tlm: int64 (batch, time)
    lengths: Tensor  # tlm, ae, bt, mt: int64 (batch,) real tokens
    source: Tensor  # ae, mt: uint16 (batch, time of the source), of which `tokens` are to be made
    source_lengths: Tensor  # ae, mt: int64 (batch,) real tokens of the source
    source_language: int  # ae, mt: of the source; bt: into which the model translates first
    numbers: Tensor  # mt, evaluation: int64 (batch,) of the pairs in their file
    slot: int
    real_tokens: int  # of `tokens`, padding left out
    objective: str
    weight: float  # of the loss


def hidden(masked: Masked) -> TrainBatch:
    """Tokens as they are seen, and what is asked."""
    return {
        "tokens": torch.from_numpy(masked.inputs),
        "places": torch.from_numpy(masked.places),
        "targets": torch.from_numpy(masked.targets),
    }


def pair_tensors(rows: PairRows) -> TrainBatch:
    """What a model is told of the rows besides their tokens."""
    return {
        "languages": torch.from_numpy(rows.languages),
        "positions": torch.from_numpy(rows.positions),
        "lengths": torch.from_numpy(rows.lengths),
    }


def target_tensors(rows: Rows, language: int) -> TrainBatch:
    """Sentences to be reached."""
    return {
        "tokens": torch.from_numpy(rows.tokens),
        "lengths": torch.from_numpy(rows.lengths),
        "language": language,
    }


def source_tensors(rows: Rows, language: int) -> TrainBatch:
    """Sentences from which others are to be reached."""
    return {
        "source": torch.from_numpy(rows.tokens),
        "source_lengths": torch.from_numpy(rows.lengths),
        "source_language": language,
    }
