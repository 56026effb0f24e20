"""The translator: what its decoder is told, and what it writes, cached or not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from xlm_lightning.generation import translate_batch, translate_tensors
from xlm_lightning.generation.decoder import EOS_ID, FIRST_WORD_ID, SourceDecoder
from xlm_lightning.model import PAD_ID
from xlm_lightning.translator import Translator

VOCABULARY = 60
SHAPE = {"vocab_size": VOCABULARY, "num_languages": 2, "layers": 2, "dim": 32, "heads": 4}


def translator(**more: object) -> Translator:
    torch.manual_seed(3)
    arguments = {**SHAPE, "max_positions": 40, "dropout": 0.0, "attention_dropout": 0.0, **more}
    model = Translator(**arguments).eval()
    with torch.no_grad():  # a model that listens to its source, and ends
        for name, parameter in model.named_parameters():
            if "source_attention" in name and parameter.dim() == 2:
                parameter.mul_(4)
        model.decoder.output_bias[EOS_ID] += 1
    return model


def sentences(count: int, seed: int = 0, longest: int = 12) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    words = (FIRST_WORD_ID, VOCABULARY)
    return [torch.randint(*words, (length,), generator=generator).tolist() for length in lengths]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """`</s> x </s>`, and real lengths."""
    framed = [[EOS_ID, *row, EOS_ID] for row in rows]
    longest = max(map(len, framed))
    tokens = torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in framed])
    return tokens, torch.tensor([len(row) for row in framed])


def language(index: int) -> Tensor:
    return torch.full((1, 1), index)


def log_probabilities(model: Translator, source: list[int], target: list[int]) -> Tensor:
    """(tokens of the target and `</s>`, vocabulary), without a cache; special ids are not drawn."""
    read = model.encode(*padded([source]), language(0))
    scores = model.logits(model(torch.tensor([[EOS_ID, *target]]), language(1), read))[0]
    logp = scores.float().log_softmax(dim=1)
    logp[:, :EOS_ID] = logp[:, EOS_ID + 1 : FIRST_WORD_ID] = -torch.inf
    logp[0, EOS_ID] = -torch.inf  # no empty translation
    return logp


def objective(model: Translator, source: list[int], target: list[int], limit: int) -> Tensor:
    """Sum of log-probabilities of the target, with `</s>` where it was not cut off."""
    ends = [] if len(target) == limit else [EOS_ID]
    expected = torch.tensor([*target, *ends])
    logp = log_probabilities(model, source, target)[: len(expected)]
    return logp.gather(1, expected[:, None]).sum()


def uncached_greedy(model: Translator, source: list[int], limit: int) -> list[int]:
    words: list[int] = []
    while len(words) < limit:
        token = int(log_probabilities(model, source, words)[len(words)].argmax())
        if token == EOS_ID:
            break
        words.append(token)
    return words


@torch.no_grad()
def test_cached_decoding_equals_uncached_token_by_token() -> None:
    model = translator()
    sources, targets = sentences(5), sentences(5, seed=1)
    read = model.encode(*padded(sources), language(0))
    tokens, lengths = padded(targets)
    whole = model.logits(model(tokens[:, :-1], language(1), read))
    decoder = SourceDecoder(model, read, language=1, limits=[20] * 5)
    rows = torch.arange(5)
    for place in range(tokens.shape[1] - 1):
        real = place < lengths[rows] - 1
        torch.testing.assert_close(decoder.scores[real], whole[rows, place][real])
        if place == 2:  # another order, and two left out
            chosen = torch.tensor([4, 0, 2])
            decoder.select(chosen)
            rows = rows[chosen]
        decoder.advance(tokens[rows, place + 1])


@torch.no_grad()
def test_beams_of_a_source_are_told_of_it_alone() -> None:
    """Several rows of a source, and searches that end before others."""
    model = translator()
    sources = sentences(4)
    read = model.encode(*padded(sources), language(0))
    decoder = SourceDecoder(model, read, language=1, limits=[20] * 4)
    decoder.select(torch.tensor([0, 0, 0, 1, 1, 1, 3, 3, 3]))
    tokens = torch.arange(20, 29)
    decoder.advance(tokens)
    decoder.select(torch.tensor([5, 4, 4, 8, 6, 7]))
    ids = [[tokens[5]], [tokens[4]], [tokens[4]], [tokens[8]], [tokens[6]], [tokens[7]]]
    for row, (source, words) in enumerate(zip([1, 1, 1, 3, 3, 3], ids, strict=True)):
        alone = model.encode(*padded([sources[source]]), language(0))
        whole = model.logits(model(torch.tensor([[EOS_ID, *words]]), language(1), alone))
        torch.testing.assert_close(decoder.scores[row], whole[0, -1])
    with pytest.raises(ValueError, match="as many rows"):
        decoder.select(torch.tensor([0, 1, 3]))


@torch.no_grad()
def test_greedy_translations_are_those_of_whole_forward_passes() -> None:
    model = translator()
    sources = sentences(12)
    limits = [int(1.5 * len(ids) + 10) for ids in sources]
    found = translate_batch(model, sources, source_language=0, language=1, beam=1)
    assert len({tuple(row) for row in found}) > 6
    assert any(len(row) < limit for row, limit in zip(found, limits, strict=True))
    for source, limit, row in zip(sources, limits, found, strict=True):
        assert row == uncached_greedy(model, source, min(limit, model.max_positions))
        assert translate_batch(model, [source], source_language=0, language=1) == [row]


@pytest.mark.parametrize(("beam", "length_penalty"), [(2, 1.0), (5, 0.0), (5, 1.0)])
def test_a_beam_never_ends_below_greedy(beam: int, length_penalty: float) -> None:
    """With a beam of two and no place for greedy, 8 of 400 would."""
    model, sources = translator(), sentences(400, seed=7)
    told = {"source_language": 0, "language": 1, "limits": [15] * len(sources)}
    greedy = translate_batch(model, sources, **told)
    found = translate_batch(model, sources, beam=beam, length_penalty=length_penalty, **told)
    better = 0
    for source, one, other in zip(sources, greedy, found, strict=True):
        scores = []
        for words in (one, other):
            tokens = min(len(words) + 1, 15)
            with torch.no_grad():
                summed = objective(model, source, words, 15)
            scores.append(float(summed) / tokens**length_penalty)
        assert scores[1] > scores[0] - 1e-4
        better += scores[1] > scores[0] + 1e-4
    assert better > 10  # so it is worth something


def test_tensors_are_translated_as_sentences_are() -> None:
    model, sources = translator(), sentences(16, seed=2)
    model.train()
    tokens, lengths = padded(sources)
    found, found_lengths = translate_tensors(
        model, tokens, lengths, source_language=0, language=1, ratio=1.3, extra=5
    )
    assert model.training
    assert not found.is_inference()
    limits = [int(1.3 * len(ids) + 5) for ids in sources]
    expected = translate_batch(model, sources, source_language=0, language=1, limits=limits)
    again, again_lengths = padded(expected)
    assert torch.equal(found, again)
    assert torch.equal(found_lengths, again_lengths)


def test_padding_and_neighbours_change_nothing() -> None:
    model = translator()
    sources = sentences(6)
    together = model.encode(*padded(sources), language(0))
    for row, source in enumerate(sources):
        alone = model.encode(*padded([source]), language(0))
        torch.testing.assert_close(together.hidden[row, : len(source) + 2], alone.hidden[0])


def test_drawn_translations_are_their_noise_alone() -> None:
    model, sources = translator(), sentences(6)
    noise = torch.rand(6, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    told = {"source_language": 1, "language": 0, "temperature": 1.0}
    together = translate_batch(model, sources, noise=noise, **told)
    for row, source in enumerate(sources):
        assert translate_batch(model, [source], noise=noise[row : row + 1], **told) == [
            together[row]
        ]


def test_every_weight_of_a_translation_is_learned() -> None:
    """All but the output layer of the encoder, which predicts nothing."""
    model = translator().train()
    tokens, lengths = padded(sentences(4))
    loss = model.loss(
        model(tokens[:, :-1], language(1), model.encode(tokens, lengths, language(0))),
        tokens[:, 1:].masked_fill(tokens[:, 1:] == PAD_ID, -100),
    )
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == ["encoder.output_bias"]
    dense = [p.grad for p in model.parameters() if p.grad is not None]
    assert not any(gradient.is_sparse for gradient in dense)
    silent = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("shared", [False, True])
def test_a_translator_is_built_again_from_its_arguments(shared: bool) -> None:
    model = translator(shared_embeddings=shared)
    again = Translator(**model.arguments)
    again.load_state_dict(model.state_dict())
    sources = sentences(3)
    told = {"source_language": 0, "language": 1}
    assert translate_batch(again, sources, **told) == translate_batch(model, sources, **told)
    assert (again.encoder.tokens is again.decoder.tokens) is shared
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, translator())]
    embedded = (VOCABULARY + 40 + 2) * SHAPE["dim"]
    assert counts[1] - counts[0] == (embedded if shared else 0)


def test_less_memory_for_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = translator(gradient_checkpointing=checkpointing).train()
        tokens, lengths = padded(sentences(4))
        read = model.encode(tokens, lengths, language(0))
        model.loss(model(tokens[:, :-1], language(1), read), tokens[:, 1:]).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_half_precision_writes_finite_scores(dropout: float) -> None:
    model = translator(dropout=dropout, attention_dropout=dropout).train()
    tokens, lengths = padded(sentences(4))
    with torch.autocast("cpu", torch.bfloat16):
        found, found_lengths = translate_tensors(
            model, tokens, lengths, source_language=0, language=1
        )
        read = model.encode(found, found_lengths, language(1))
        loss = model.loss(model(tokens[:, :-1], language(0), read), tokens[:, 1:])
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
