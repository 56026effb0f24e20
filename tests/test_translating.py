"""Decoding of a translator: neither cache nor batch changes a translation; it fits a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_translator import ENGLISH, GERMAN, sentences
from torch import Tensor

from xlm_lightning.generation import (
    EOS_ID,
    FIRST_WORD_ID,
    Decoder,
    seeded_noise,
    translate_batch,
    translate_tensors,
)
from xlm_lightning.model import PAD_ID
from xlm_lightning.translator import Translator

BOTH = {"source_language": 0, "language": 1}
LENGTHS = [9, 4, 12, 7, 3, 9]


def sharpened(seed: int, eos: float = 1.0, **shape: Any) -> Translator:
    """A model whose translations depend on their source, and end here and there."""
    torch.manual_seed(seed)
    small = {"vocab_size": 50, "num_languages": 2, "layers": 2, "dim": 16, "heads": 2}
    model = Translator(**small | {"max_positions": 40} | shape).eval()
    with torch.no_grad():
        for layer in (*model.encoder.layers, *model.decoder.layers):
            for parameter in layer.parameters():
                parameter *= 2
        model.decoder.output_bias[EOS_ID] = eos
    return model


@pytest.fixture(scope="module")
def model() -> Translator:
    return sharpened(5, eos=2.5)


def words(lengths: list[int], seed: int = 0) -> list[list[int]]:
    tokens, _ = sentences(lengths, seed)
    return [row[1 : n - 1].tolist() for row, n in zip(tokens, lengths, strict=True)]


@torch.no_grad()
def log_probabilities(model: Translator, source: list[int], target: list[int]) -> Tensor:
    """(tokens + 1, vocabulary), of each next token: the plain way, without cache and batch."""
    tokens = torch.tensor([[EOS_ID, *source, EOS_ID]])
    read = model.encode(tokens, torch.tensor([tokens.shape[1]]), GERMAN)
    hidden = model(torch.tensor([[EOS_ID, *target]]), ENGLISH, read)
    return model.logits(hidden)[0].log_softmax(-1)


def greedy_without_cache(model: Translator, source: list[int], limit: int) -> list[int]:
    ids: list[int] = []
    for _ in range(limit):
        scores = log_probabilities(model, source, ids)[-1]
        scores[[i for i in range(FIRST_WORD_ID) if i != EOS_ID or not ids]] = -torch.inf
        ids.append(int(scores.argmax()))
        if ids[-1] == EOS_ID:
            return ids[:-1]
    return ids


def default_limit(source: list[int]) -> int:
    return int(1.5 * len(source) + 10)


@torch.no_grad()
def test_cached_scores_are_those_of_teacher_forcing(model: Translator) -> None:
    tokens, lengths = sentences(LENGTHS)
    source = model.encode(tokens, lengths, GERMAN)
    decoder = Decoder(model.decoder, [[]] * 6, language=1, max_new_tokens=12, source=source)
    target = torch.randint(FIRST_WORD_ID, 50, (6, 11))
    read = torch.nn.functional.pad(target, (1, 0), value=EOS_ID)
    expected = model.logits(model(read, ENGLISH, source))
    for step in range(12):
        torch.testing.assert_close(decoder.scores, expected[:, step], atol=1e-5, rtol=1e-5)
        assert torch.equal(decoder.scores.argmax(1), expected[:, step].argmax(1))
        if step < 11:
            decoder.advance(target[:, step])


@pytest.mark.parametrize(
    "rows",
    [
        [4, 0, 2, 5],  # some end
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5],  # beams side by side
        [1, 1, 1, 0, 0, 0],
        [3, 3, 0, 5, 5, 5, 3],  # not as many for each
        [2, 2, 2],
    ],
)
@torch.no_grad()
def test_selected_rows_read_their_own_source(model: Translator, rows: list[int]) -> None:
    tokens, lengths = sentences(LENGTHS)
    decoder = Decoder(
        model.decoder,
        [[]] * 6,
        language=1,
        max_new_tokens=9,
        source=model.encode(tokens, lengths, GERMAN),
    )
    texts: list[list[int]] = [[] for _ in LENGTHS]
    places = torch.arange(6)
    generator = torch.Generator().manual_seed(1)
    for step in range(8):
        if step in (2, 5):  # the second time within what the first one has left
            chosen = torch.tensor(rows if step == 2 else [0, 0, 2, 2])
            decoder.select(chosen)
            places, texts = places[chosen], [texts[row] for row in chosen.tolist()]
        ids = torch.randint(FIRST_WORD_ID, 50, (len(places),), generator=generator)
        decoder.advance(ids)
        texts = [[*text, int(id_)] for text, id_ in zip(texts, ids, strict=True)]
    for row, (place, text) in enumerate(zip(places.tolist(), texts, strict=True)):
        source = tokens[place, 1 : LENGTHS[place] - 1].tolist()
        expected = log_probabilities(model, source, text)[-1]
        found = decoder.scores[row].log_softmax(0)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_greedy_translations_are_the_plain_ones(model: Translator) -> None:
    sources = words(LENGTHS)
    found = translate_batch(model, sources, **BOTH)
    assert found == [greedy_without_cache(model, x, default_limit(x)) for x in sources]
    ended = [len(y) < default_limit(x) for x, y in zip(sources, found, strict=True)]
    assert len({len(y) for y in found}) > 2  # rows end at different times
    assert any(ended)
    assert len(set(map(tuple, found))) > 4


@pytest.mark.parametrize("how", [{}, {"beam": 5}, {"beam": 3, "length_penalty": 0.0}], ids=str)
def test_batching_changes_no_translation(model: Translator, how: dict[str, Any]) -> None:
    sources = words([*LENGTHS, 20, 15, 5, 8])
    together = translate_batch(model, sources, **BOTH, **how)
    assert together == [translate_batch(model, [x], **BOTH, **how)[0] for x in sources]


def test_no_translation_is_empty_and_none_passes_its_limit() -> None:
    sources, limits = words(LENGTHS), [1, 2, 3, 4, 5, 6]
    for eos in (50.0, -50.0):
        model = sharpened(0, eos=eos)
        for beam in (1, 3):
            found = translate_batch(model, sources, **BOTH, beam=beam, max_new_tokens=limits)
            assert [len(ids) for ids in found] == ([1] * 6 if eos > 0 else limits)
            assert min(map(min, found)) >= FIRST_WORD_ID


def test_drawn_translations_depend_on_their_own_noise_alone(model: Translator) -> None:
    sources = words(LENGTHS)
    noise = seeded_noise(3, [(i, 0) for i in range(6)], 40)
    how = {**BOTH, "temperature": 1.0, "top_k": 20, "top_p": 0.9}
    together = translate_batch(model, sources, noise=noise, **how)
    alone = [
        translate_batch(model, [x], noise=noise[i : i + 1], **how)[0] for i, x in enumerate(sources)
    ]
    assert together == alone
    assert together != translate_batch(model, sources, **BOTH)


def test_tensors_are_the_greedy_translations_in_a_frame() -> None:
    model = sharpened(5, eos=2.5).train()
    tokens, lengths = sentences(LENGTHS)
    found, counts = translate_tensors(model, tokens, lengths, **BOTH)
    assert model.training
    assert found.dtype == counts.dtype == torch.int64
    assert not found.is_inference()
    limits = [int(1.3 * (n - 2) + 5) for n in LENGTHS]
    expected = translate_batch(model, words(LENGTHS), **BOTH, max_new_tokens=limits)
    assert counts.tolist() == [len(ids) + 2 for ids in expected]
    assert found.shape == (6, max(counts))
    for row, ids in zip(found.tolist(), expected, strict=True):
        assert row == [EOS_ID, *ids, EOS_ID] + [PAD_ID] * (found.shape[1] - len(ids) - 2)
    assert any(len(ids) == n for ids, n in zip(expected, limits, strict=True))
    assert any(len(ids) < n for ids, n in zip(expected, limits, strict=True))


def test_a_back_translation_fits_the_encoder() -> None:
    model = sharpened(0, eos=-50.0, max_positions=12)
    tokens, lengths = sentences([12, 12])
    found, counts = translate_tensors(model, tokens, lengths, **BOTH)
    assert counts.tolist() == [12, 12]
    model.encode(found, counts, ENGLISH)


@pytest.mark.parametrize("shared", [False, True])
def test_back_translation_in_a_step_under_autocast(shared: bool) -> None:
    """The step learns from it as from a batch of text: the same gradients reach all weights.

    Weights that autocast has cast where nothing is learnt serve the rest of the step as well.
    """
    model = sharpened(2, shared_embeddings=shared, dropout=0.0, attention_dropout=0.0).train()
    tokens, lengths = sentences(LENGTHS)

    def train_on(source: Tensor, counts: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        read = model.encode(source, counts, ENGLISH)
        hidden = model(tokens[:, :-1], GERMAN, read)
        assert hidden.shape == (6, tokens.shape[1] - 1, 16)
        loss = model.loss(hidden, tokens[:, 1:])
        assert torch.isfinite(loss)
        loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    with torch.autocast("cpu", torch.bfloat16):
        found, counts = translate_tensors(model, tokens, lengths, **BOTH)
        after_it = train_on(found, counts)
    with torch.autocast("cpu", torch.bfloat16):
        of_text = train_on(found, counts)
    assert set(after_it) == set(of_text)
    for name, gradient in of_text.items():
        torch.testing.assert_close(after_it[name], gradient, atol=1e-6, rtol=1e-5)
    assert set(after_it) == {n for n, _ in model.named_parameters()} - {"encoder.output_bias"}


@torch.no_grad()
def test_caches_hold_what_is_computed_in() -> None:
    model = sharpened(2)
    tokens, lengths = sentences(LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        source = model.encode(tokens, lengths, GERMAN)
        caches = model.decoder.new_caches(5)
        for first in (source, None):
            model.decoder(tokens[:, :1], ENGLISH, caches, source=first)
        beam = translate_batch(model, words(LENGTHS), **BOTH, beam=3)
    for cache in caches:
        assert cache.buffer is not None
        assert cache.source is not None
        assert cache.buffer.dtype == cache.source.keys_values.dtype == torch.bfloat16
    assert len(beam) == 6
