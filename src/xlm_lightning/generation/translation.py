"""Sentences from a translator: greedy, drawn, or the best that a beam search finds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from xlm_lightning.generation.beam_search import beam_search_from
from xlm_lightning.generation.decoder import EOS_ID, SourceDecoder
from xlm_lightning.generation.sampling import draw, draw_all, until_eos
from xlm_lightning.layers import Source
from xlm_lightning.model import PAD_ID
from xlm_lightning.translator import Translator

RATIO, EXTRA = 1.5, 10  # tokens of a translation at most, by those of its source: the original's


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
    limits: Sequence[int] | None = None,
    stop_at_eos: bool = True,
) -> list[list[int]]:
    """Translate each of `sources` (ids without the `</s>` around them); ids without `</s>`.

    `beam` above 1: the best hypothesis of `beam_search_from`. Otherwise as `generate_batch`:
    greedy, or what `noise` (rows, steps) draws. `limits`: tokens of each translation at most, by
    default 1.5 times those of its source and 10, cut to the model's positions.
    """
    was_training = model.training
    model.eval()
    rows = [[EOS_ID, *ids, EOS_ID] for ids in sources]
    lengths = [len(row) for row in rows]
    padded = [row + [PAD_ID] * (max(lengths) - len(row)) for row in rows]
    device = model.encoder.tokens.weight.device
    read = (torch.tensor(padded, device=device), torch.tensor(lengths, device=device))
    source = _encoded(model, *read, source_language)
    if limits is None:
        limits = [int(RATIO * len(ids) + EXTRA) for ids in sources]
    decoder = SourceDecoder(model, source, language=language, limits=limits)
    if beam > 1:
        found = beam_search_from(
            decoder, beam=beam, length_penalty=length_penalty, early_stopping=early_stopping
        )
        translations = [hypotheses[0].ids for hypotheses in found]
    else:
        choose = partial(draw, temperature=temperature, top_k=top_k, top_p=top_p)
        empty = torch.full((len(rows),), stop_at_eos, device=device)
        drawn = draw_all(decoder, choose, noise, empty, stop_at_eos).tolist()
        translations = [row[:limit] for row, limit in zip(drawn, decoder.limits, strict=True)]
        if stop_at_eos:
            translations = [until_eos(row) for row in translations]
    model.train(was_training)
    return translations


@torch.no_grad()
def translate_tensors(
    model: Translator,
    tokens: Tensor,
    lengths: Tensor,
    *,
    source_language: int,
    language: int,
    ratio: float = 1.3,
    extra: int = 5,
) -> tuple[Tensor, Tensor]:
    """Translate greedily what is on the device already: a batch as it is trained on.

    `tokens` int64 (batch, time) are `</s> x </s>`, padded behind their `lengths` (batch,); so are
    the translations that are returned, and their lengths. `ratio` and `extra`: tokens of a
    translation at most, by default those of the original's back-translation.
    """
    was_training = model.training
    model.eval()
    source = _encoded(model, tokens, lengths, source_language)
    limits = ((lengths - 2) * ratio + extra).long().clamp(max=model.max_positions - 1)
    decoder = SourceDecoder(model, source, language=language, limits=limits.tolist())
    empty = torch.ones_like(lengths, dtype=torch.bool)
    drawn = draw_all(decoder, partial(draw, temperature=0), None, empty, stop_at_eos=True)
    model.train(was_training)
    place = torch.arange(drawn.shape[1], device=drawn.device)
    ended = (drawn == EOS_ID) | (place >= limits[:, None])
    ended = torch.nn.functional.pad(ended, (0, 1), value=True)
    words = ended.int().argmax(dim=1)  # of each row, before its end
    width = int(words.max()) + 2
    found = torch.full((len(drawn), width), PAD_ID, device=drawn.device)
    found[:, 0] = EOS_ID
    found[:, 1:-1] = drawn[:, : width - 2].masked_fill(place[: width - 2] >= words[:, None], PAD_ID)
    found.scatter_(1, words[:, None] + 1, EOS_ID)
    return found, words + 2


def _encoded(model: Translator, tokens: Tensor, lengths: Tensor, language: int) -> Source:
    return model.encode(tokens, lengths, torch.full((1, 1), language, device=tokens.device))
