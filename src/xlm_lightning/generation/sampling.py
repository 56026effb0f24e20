"""Continue texts token by token: the most probable one each time, or one drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from xlm_lightning.generation.decoder import EOS_ID, Decoder, forbid
from xlm_lightning.model import XLM

Choice = Callable[..., Tensor]  # (scores, noise=...) -> ids, both with a row each


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
    """Continue one prompt `num_samples` times: `generate_batch` with the noise of a generator."""
    device = generator.device if generator is not None else None
    size = (num_samples, max_new_tokens)
    return generate_batch(
        model,
        [prompt] * num_samples,
        language=language,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        noise=torch.rand(size, generator=generator, device=device, dtype=torch.float64),
        stop_at_eos=stop_at_eos,
    )


@torch.inference_mode()
def generate_batch(
    model: XLM,
    prompts: Sequence[Sequence[int]],
    *,
    language: int,
    max_new_tokens: int = 64,
    temperature: float = 0,
    top_k: int | None = None,
    top_p: float | None = None,
    noise: Tensor | None = None,
    stop_at_eos: bool = True,
) -> list[list[int]]:
    """Continue each of `prompts` (ids, without the `</s>` in front of a text) as if it were alone.

    `temperature` 0 is greedy; otherwise token t of row i is what `noise[i, t]` draws (float64 in
    [0, 1), rows x max_new_tokens). A continuation ends before `</s>`, or after `max_new_tokens` or
    as many as the model has positions for. A text that would be empty is not drawn.
    """
    was_training = model.training
    model.eval()
    decoder = Decoder(model, prompts, language=language, max_new_tokens=max_new_tokens)
    choose = partial(draw, temperature=temperature, top_k=top_k, top_p=top_p)
    drawn = draw_all(decoder, choose, noise, stop_at_eos).tolist()
    model.train(was_training)
    texts = [row[:limit] for row, limit in zip(drawn, decoder.limits, strict=True)]
    return [until_eos(row) for row in texts] if stop_at_eos else texts


def draw_all(
    decoder: Decoder, choose: Choice, noise: Tensor | None = None, stop_at_eos: bool = True
) -> Tensor:
    """Draw until every row has ended; ids (rows, steps), meaningless behind the end of a row."""
    device = decoder.device
    limits = torch.tensor(decoder.limits, device=device)
    noise = None if noise is None else noise.to(device)
    drawn = torch.full((len(limits), decoder.steps), EOS_ID, device=device)
    rows = torch.arange(len(limits), device=device)  # of `drawn`, those of the decoder
    going = torch.ones_like(rows, dtype=torch.bool)
    for step in range(decoder.steps):
        scores = forbid(decoder.scores, decoder.empty if step == 0 and stop_at_eos else None)
        ids = choose(scores, noise=None if noise is None else noise[rows, step])
        drawn[rows, step] = ids
        going &= limits[rows] > step + 1
        if stop_at_eos:
            going &= ids != EOS_ID
        left = int(going.sum())
        if left == 0:
            break
        if left <= len(rows) // 2:  # not at every end: it copies the cache
            decoder.select(going.nonzero()[:, 0])
            rows, ids, going = rows[going], ids[going], going[going]
        decoder.advance(ids)
    return drawn


def draw(
    scores: Tensor,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """One id (rows,) for each row of `scores` (rows, vocabulary).

    `noise` (rows,) in [0, 1) chooses from the distribution: the id at which the summed
    probabilities of those before it, in a fixed order, pass `noise`.
    """
    if temperature == 0:
        return scores.argmax(dim=1)
    assert noise is not None, "drawing needs noise"
    scores = scores / temperature
    order = None
    if top_k is not None or top_p is not None:  # the most probable one first
        size = scores.shape[1]
        scores, order = scores.topk(size if top_k is None else min(top_k, size), dim=1)
    # float64: 64,699 probabilities summed in fp32 are off by more than many a word has.
    probabilities = scores.softmax(dim=1, dtype=torch.float64)
    summed = probabilities.cumsum(dim=1)
    total = summed[:, -1:]
    if top_p is not None:
        kept = summed - probabilities < top_p  # the first word always stays
        total = summed.gather(1, kept.sum(dim=1, keepdim=True) - 1)
    below = total.nextafter(torch.zeros_like(total))  # rounding must not choose past the end
    chosen = torch.searchsorted(summed, (noise[:, None] * total).minimum(below), right=True)
    return (chosen if order is None else order.gather(1, chosen))[:, 0]


def seeded_noise(seed: int, samples: Sequence[tuple[int, int]], max_new_tokens: int) -> Tensor:
    """Noise for `generate_batch`, a row for each (index of the prompt, index of its sample).

    A row depends on the seed and its two indices alone, not on what is generated beside it.
    """
    rows = [np.random.default_rng((seed, *sample)).random(max_new_tokens) for sample in samples]
    return torch.from_numpy(np.stack(rows))


def until_eos(row: list[int]) -> list[int]:
    return row[: row.index(EOS_ID)] if EOS_ID in row else row
