"""What a batch asks of a model: the next token (clm), hidden ones (mlm, tlm), a translation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xlm_lightning.cross_entropy import IGNORED
from xlm_lightning.model import XLM
from xlm_lightning.streaming.turns import MLM, TLM, TRANSLATION
from xlm_lightning.translator import Translator


def predicting(model: XLM | Translator, objective: str) -> XLM:
    """The network whose output layer answers: of a translator the decoder, or for hidden words
    the encoder, as in the original."""
    if isinstance(model, XLM):
        return model
    return model.encoder if objective in (MLM, TLM) else model.decoder


def predictions(
    model: XLM | Translator, batch: Mapping[str, Any], context_size: int = 0
) -> tuple[Tensor, Tensor]:
    """Hidden states (n, dim) of the places that are scored, and the tokens (n,) expected there.

    They are those of `predicting(model, objective)`. For a translation see
    `translation_predictions`. Otherwise a batch holds `tokens` (batch, time), `objective` and
    `language`, an index. Of a masked one `places` (n,) of the flattened tokens are scored, against
    `targets` (n,); `tlm` has `languages` and `positions` (batch, time) and `lengths` (batch,) of
    its own. A causal one has `targets` (batch, time), `IGNORED` where nothing is scored, or none:
    then each token predicts the next one of its row, as in training, but for the first
    `context_size`.
    """
    if batch["objective"] in TRANSLATION:
        assert isinstance(model, Translator)
        return translation_predictions(model, batch)
    model = predicting(model, batch["objective"])
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


def translation_predictions(model: Translator, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The same for a sentence that is told of a source: all of its tokens, `</s>` behind included.

    `source` (batch, source_time) and `tokens` (batch, time) are `</s> sentence </s>`, padded
    behind; `source_lengths` and `lengths` (batch,) count real tokens.
    """
    tokens, lengths = batch["tokens"], batch["lengths"]
    languages = torch.full((1, 1), batch["source_language"], device=tokens.device)
    source = model.encode(batch["source"], batch["source_lengths"], languages)
    languages = torch.full((1, 1), batch["language"], device=tokens.device)
    hidden = model(tokens[:, :-1], languages, source)
    real = torch.arange(1, tokens.shape[1], device=tokens.device) < lengths[:, None]
    return hidden[real], tokens[:, 1:][real]
