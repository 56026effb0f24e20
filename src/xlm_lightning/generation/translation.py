"""Translations: greedy, drawn or by beam search, as lists of ids or as tensors to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from xlm_lightning.generation.beam_search import search
from xlm_lightning.generation.decoder import EOS_ID, Decoder
from xlm_lightning.generation.sampling import draw, draw_all, until_eos
from xlm_lightning.model import PAD_ID
from xlm_lightning.translator import Translator


@torch.inference_mode()
def translate_batch(
    model: Translator,
    sources: Sequence[Sequence[int]],
    *,
    source_language: int,
    language: int,
    beam: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    temperature: float = 0,
    top_k: int | None = None,
    top_p: float | None = None,
    noise: Tensor | None = None,
    max_new_tokens: Sequence[int] | None = None,
) -> list[list[int]]:
    """The translation of each of `sources`, all ids without `</s>`.

    With a `beam` above 1 the best one of `beam_search`, which never scores below the greedy one;
    otherwise drawn as in `generate_batch`. `max_new_tokens` (rows) is 1.5 * source + 10 by default,
    and one that is cut off there keeps its last word. None is empty.
    """
    was_training = model.training
    model.eval()
    limits = max_new_tokens
    if limits is None:
        limits = [min(int(1.5 * len(x) + 10), model.max_positions - 1) for x in sources]
    tokens, lengths = _framed(sources, model.decoder.tokens.weight.device)
    decoder = _decoder(model, tokens, lengths, source_language, language, limits)
    if beam > 1:
        found = search(decoder, beam, length_penalty, early_stopping, keep_greedy=True)
        translations = [hypotheses[0].ids for hypotheses in found]
    else:
        choose = partial(draw, temperature=temperature, top_k=top_k, top_p=top_p)
        rows = draw_all(decoder, choose, noise).tolist()
        translations = [until_eos(row[:n]) for row, n in zip(rows, decoder.limits, strict=True)]
    model.train(was_training)
    return translations


@torch.no_grad()
def translate_tensors(
    model: Translator,
    source: Tensor,
    lengths: Tensor,
    *,
    source_language: int,
    language: int,
    ratio: float = 1.3,
    extra: int = 5,
) -> tuple[Tensor, Tensor]:
    """Greedy translations `</s> y </s>` of `source` int64 (batch, time), padded, and their lengths.

    `source` holds `</s> x </s>` in the first `lengths` (batch,) places of each row. y has at most
    `ratio` * x + `extra` tokens, and fits into the model as a source. For back-translation within
    a training step, also under autocast.
    """
    was_training = model.training
    model.eval()
    words = [length - 2 for length in lengths.tolist()]
    limits = [min(int(ratio * n + extra), model.max_positions - 2) for n in words]
    decoder = _decoder(model, source, lengths, source_language, language, limits)
    drawn = draw_all(decoder, partial(draw, temperature=0))
    model.train(was_training)
    return _framed_rows(drawn, torch.tensor(limits, device=drawn.device))


def translate_pairs(
    model: Translator, batch: Mapping[str, Any], *, beam: int = 1, length_penalty: float = 1.0
) -> tuple[list[list[int]], list[list[int]]]:
    """Translations of the sources of a batch of pairs, and what they should be, without `</s>`.

    Greedy ones are made as the original makes them while it trains.
    """
    between = {"source_language": batch["source_language"], "language": batch["language"]}
    wanted = sentences(batch["tokens"], batch["lengths"])
    source, lengths = batch["source"], batch["source_lengths"]
    if beam == 1:
        made = translate_tensors(model, source, lengths, **between, ratio=1.5, extra=10)
        return sentences(*made), wanted
    sources, how = sentences(source, lengths), {**between, "length_penalty": length_penalty}
    return translate_batch(model, sources, **how, beam=beam), wanted


def sentences(tokens: Tensor, lengths: Tensor) -> list[list[int]]:
    """Ids between the first and the last `</s>` of each row."""
    rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
    return [row[1 : length - 1] for row, length in rows]


def _decoder(
    model: Translator,
    tokens: Tensor,
    lengths: Tensor,
    source_language: int,
    language: int,
    limits: Sequence[int],
) -> Decoder:
    languages = torch.tensor([[source_language]], device=tokens.device)
    source = model.encode(tokens, lengths, languages)
    nothing: list[list[int]] = [[]] * len(tokens)
    return Decoder(model.decoder, nothing, language=language, max_new_tokens=limits, source=source)


def _framed(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """`</s> x </s>` of each row, padded behind (rows, time), and its lengths (rows,)."""
    longest = max(map(len, rows))
    padded = [[EOS_ID, *row, EOS_ID, *[PAD_ID] * (longest - len(row))] for row in rows]
    lengths = [len(row) + 2 for row in rows]
    return torch.tensor(padded, device=device), torch.tensor(lengths, device=device)


def _framed_rows(drawn: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """The same of `drawn` (rows, steps), each of which ends before `</s>` or at its limit."""
    steps = torch.arange(drawn.shape[1], device=drawn.device)
    ends = torch.where(drawn == EOS_ID, steps, drawn.shape[1]).amin(dim=1)
    lengths = ends.minimum(limits)
    time = int(lengths.max())
    words = drawn[:, :time].masked_fill(steps[:time] >= lengths[:, None], PAD_ID)
    framed = torch.nn.functional.pad(words, (1, 1), value=PAD_ID)
    framed[:, 0] = EOS_ID
    return framed.scatter_(1, lengths[:, None] + 1, EOS_ID), lengths + 2
