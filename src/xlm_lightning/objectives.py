"""What a batch asks of a model: the next token everywhere (clm), or hidden ones (mlm, tlm)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xlm_lightning.cross_entropy import IGNORED
from xlm_lightning.model import XLM
from xlm_lightning.streaming.turns import MLM, TLM


def predictions(
    model: XLM, batch: Mapping[str, Any], context_size: int = 0
) -> tuple[Tensor, Tensor]:
    """Hidden states (n, dim) of the places that are scored, and the tokens (n,) expected there.

    A batch holds `tokens` (batch, time), `objective` and `language`, an index. Of
    a masked one `places` (n,) of the flattened tokens are scored, against `targets` (n,); `tlm` has
    `languages` and `positions` (batch, time) and `lengths` (batch,) of its own. A causal
    one has `targets` (batch, time), `IGNORED` where nothing is scored, or none: then each token
    predicts the next one of its row, as in training, but for the first `context_size` ones.
    """
    tokens: Tensor = batch["tokens"]
    if batch["objective"] == TLM:
        where = {"positions": batch["positions"], "lengths": batch["lengths"]}
        hidden = model(tokens, batch["languages"], causal=False, **where)
        return hidden.flatten(0, 1)[batch["places"]], batch["targets"]
    # The same everywhere. `torch.tensor` would copy it to a GPU, and wait for all that goes before.
    languages = torch.full((1, 1), batch["language"], device=tokens.device)
    if batch["objective"] == MLM:
        hidden = model(tokens, languages, causal=False)
        return hidden.flatten(0, 1)[batch["places"]], batch["targets"]
    if "targets" in batch:
        targets = batch["targets"]
        return model(tokens, languages)[targets != IGNORED], targets[targets != IGNORED]
    hidden = model(tokens[:, :-1], languages)
    return hidden[:, context_size:].flatten(0, 1), tokens[:, 1 + context_size :].flatten()
