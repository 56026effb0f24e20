"""Continue a text token by token, with keys and values of earlier positions cached."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xlm_lightning.model import XLM

EOS_ID = 1
FIRST_WORD_ID = 14  # ids below are special; of these only </s> ever occurs in a stream


@torch.inference_mode()
def generate(
    model: XLM,
    prompt: Sequence[int],
    *,
    language: int,
    num_samples: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    stop_at_eos: bool = True,
) -> list[list[int]]:
    """Sample `num_samples` continuations of `prompt` (ids, without the `</s>` in front of it).

    A text begins after `</s>`, as in training. `temperature` 0 is greedy. The continuation ends
    before `</s>` or after `max_new_tokens`; the model's number of positions bounds the whole. Only
    words and `</s>` are drawn: the other special ids never occur in a stream. A text that would be
    empty (a blank line, the end of a document) is not drawn.
    """
    device = model.tokens.weight.device
    was_training = model.training
    model.eval()
    ids = torch.tensor([[EOS_ID, *prompt]], device=device).repeat(num_samples, 1)
    steps = min(max_new_tokens, model.max_positions - ids.shape[1] + 1)
    caches = model.new_caches(num_samples, ids.shape[1] + max(steps, 0))
    language_ids = torch.tensor([[language]], device=device)
    drawn: list[Tensor] = []
    ended = torch.zeros(num_samples, dtype=torch.bool, device=device)
    for _ in range(steps):
        hidden = model(ids, language_ids, caches)
        scores = model.logits(hidden[:, -1]).float()
        if stop_at_eos and not prompt and not drawn:
            scores[:, EOS_ID] = -torch.inf
        ids = draw(scores, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
        drawn.append(ids)
        ended |= ids[:, 0] == EOS_ID
        if stop_at_eos and bool(ended.all()):
            break
    model.train(was_training)
    rows = torch.cat(drawn, dim=1).tolist() if drawn else [[] for _ in range(num_samples)]
    return [_until_eos(row) if stop_at_eos else row for row in rows]


def draw(
    scores: Tensor,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator | None,
) -> Tensor:
    """One id (batch, 1) for each row of `scores` (batch, vocabulary)."""
    scores = scores.clone()
    scores[:, :FIRST_WORD_ID] = scores[:, :FIRST_WORD_ID].where(
        torch.arange(FIRST_WORD_ID, device=scores.device) == EOS_ID, -torch.inf
    )
    if temperature == 0:
        return scores.argmax(dim=1, keepdim=True)
    scores /= temperature
    if top_k is not None:
        least = scores.topk(min(top_k, scores.shape[1]), dim=1).values[:, -1:]
        scores.masked_fill_(scores < least, -torch.inf)
    if top_p is not None:
        ordered, order = scores.sort(dim=1, descending=True)
        mass_before = ordered.softmax(dim=1).cumsum(dim=1) - ordered.softmax(dim=1)
        ordered.masked_fill_(mass_before >= top_p, -torch.inf)  # the first word always stays
        scores.scatter_(1, order, ordered)
    return torch.multinomial(scores.softmax(dim=1), 1, generator=generator)


def _until_eos(row: list[int]) -> list[int]:
    return row[: row.index(EOS_ID)] if EOS_ID in row else row
