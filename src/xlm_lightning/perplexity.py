"""Perplexity, accuracy and bits per byte, from sums that can be added over batches and ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xlm_lightning.cross_entropy import IGNORED
from xlm_lightning.model import XLM

NLL, HITS, TOKENS = range(3)  # the columns of a table of sums
LOGITS_PER_STRIP = 1 << 24  # bounds the memory of the scores: 64 MB in fp32


def empty_sums(num_languages: int, device: torch.device | str = "cpu") -> Tensor:
    """(languages, 3) float64 zeros: nats, hits of the most probable token, tokens scored."""
    return torch.zeros(num_languages, 3, dtype=torch.float64, device=device)


@torch.no_grad()
def score(model: XLM, tokens: Tensor, targets: Tensor, language: Tensor) -> Tensor:
    """Row of sums (3,) float64 for `tokens` and `targets`, both (batch, time)."""
    nll, hits = score_tokens(model, tokens, targets, language)
    scored = targets != IGNORED
    return torch.stack([nll.sum(), hits.sum().double(), scored.sum().double()])


@torch.no_grad()
def score_tokens(
    model: XLM, tokens: Tensor, targets: Tensor, language: Tensor
) -> tuple[Tensor, Tensor]:
    """-ln p in nats (float64) and hits (bool) of every target (batch, time); 0 where unscored."""
    hidden = model(tokens, language).flatten(0, 1)
    flat = targets.flatten()
    nll = torch.zeros(len(flat), dtype=torch.float64, device=flat.device)
    hits = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    rows = max(1, LOGITS_PER_STRIP // model.tokens.num_embeddings)
    for start in range(0, len(flat), rows):
        part = slice(start, start + rows)
        logits = model.logits(hidden[part]).float()
        columns = flat[part].clamp(min=0)[:, None]
        target_logits = logits.gather(1, columns)
        nll[part] = (logits.logsumexp(1, keepdim=True) - target_logits)[:, 0].double()
        hits[part] = logits.argmax(1) == columns[:, 0]
    scored = flat != IGNORED
    return (nll * scored).view_as(targets), (hits & scored).view_as(targets)


def summarise(
    sums: Tensor, languages: Sequence[str], bytes_per_token: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Per language the figures of the contract, and `mean`: the arithmetic mean of perplexities.

    The mean over languages is the original's stopping criterion. Bits per byte are those of the raw
    text, newlines included; text that became `<unk>` is not paid for, so they flatter a model with
    many unknown tokens.
    """
    result: dict[str, dict[str, Any]] = {}
    for language, row in zip(languages, sums.tolist(), strict=True):
        tokens = int(row[TOKENS])
        if tokens:
            nats = row[NLL] / tokens
            result[language] = {
                "perplexity": math.exp(nats) if nats < 700 else math.inf,
                "accuracy": row[HITS] / tokens,
                "bits_per_byte": nats / math.log(2) / bytes_per_token[language],
                "nll_nats": row[NLL],
                "tokens": tokens,
            }
    if result:
        perplexities = [figures["perplexity"] for figures in result.values()]
        result["mean"] = {"perplexity": sum(perplexities) / len(perplexities)}
    return result
