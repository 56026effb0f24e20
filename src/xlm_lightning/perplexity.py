"""Perplexity, accuracy and bits per byte, from sums that can be added over batches and ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xlm_lightning.model import XLM
from xlm_lightning.objectives import predicting, predictions
from xlm_lightning.translator import Translator

NLL, HITS, TOKENS = range(3)  # the columns of a table of sums
LOGITS_PER_STRIP = 1 << 24  # bounds the memory of the scores: 64 MB in fp32


def empty_sums(num_languages: int, device: torch.device | str = "cpu") -> Tensor:
    """(languages, 3) float64 zeros: nats, hits of the most probable token, tokens scored."""
    return torch.zeros(num_languages, 3, dtype=torch.float64, device=device)


@torch.no_grad()
def score(model: XLM | Translator, batch: Mapping[str, Any]) -> Tensor:
    """Row of sums (3,) float64 for all that `batch` asks; see `objectives.predictions`."""
    network = predicting(model, batch["objective"])
    nll, hits = score_tokens(network, *predictions(model, batch))
    count = torch.tensor(float(len(nll)), dtype=torch.float64, device=nll.device)
    return torch.stack([nll.sum(), hits.sum().double(), count])


@torch.no_grad()
def score_tokens(model: XLM, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """-ln p in nats (float64) and hits (bool) of `targets` (n,), given `hidden` (n, dim)."""
    nll = torch.empty(len(targets), dtype=torch.float64, device=hidden.device)
    hits = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)
    rows = max(1, LOGITS_PER_STRIP // model.tokens.num_embeddings)
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        logits = model.logits(hidden[part]).float()
        columns = targets[part, None]
        nll[part] = (logits.logsumexp(1, keepdim=True) - logits.gather(1, columns))[:, 0].double()
        hits[part] = logits.argmax(1) == columns[:, 0]
    return nll, hits


def summarise(
    sums: Tensor, languages: Sequence[str], bytes_per_token: Mapping[str, float] | None
) -> dict[str, dict[str, Any]]:
    """Per language the figures of the contract, and `mean`: the arithmetic mean of perplexities.

    The mean over languages is the original's stopping criterion. Bits per byte are those of the raw
    text, newlines included; text that became `<unk>` is not paid for, so they flatter a model with
    many unknown tokens. They say nothing of a masked model, which is asked for a part of the text
    and sees the rest: `bytes_per_token` None.
    """
    result: dict[str, dict[str, Any]] = {}
    for language, row in zip(languages, sums.tolist(), strict=True):
        tokens = int(row[TOKENS])
        if tokens:
            nats = row[NLL] / tokens
            result[language] = {
                "perplexity": to_perplexity(nats),
                "accuracy": row[HITS] / tokens,
                "nll_nats": row[NLL],
                "tokens": tokens,
            }
            if bytes_per_token is not None:
                bits = nats / math.log(2)
                result[language]["bits_per_byte"] = bits / bytes_per_token[language]
    if result:
        perplexities = [figures["perplexity"] for figures in result.values()]
        result["mean"] = {"perplexity": sum(perplexities) / len(perplexities)}
    return result


def perplexities(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Name and perplexity of each row of nested figures: `de`, `mean`, `mlm de`, ..."""
    for name, row in results.items():
        if "perplexity" in row:
            yield prefix + name, row["perplexity"]
        else:
            yield from perplexities(row, f"{prefix}{name} ")


def to_perplexity(nats_per_token: float) -> float:
    """exp, infinite where a float would overflow."""
    return math.exp(nats_per_token) if nats_per_token < 700 else math.inf
