"""The translator: what it reads, what it shares, what it learns from, and how it is stored."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from xlm_lightning.flops import translation_flops
from xlm_lightning.generation import EOS_ID, FIRST_WORD_ID
from xlm_lightning.model import PAD_ID, XLM
from xlm_lightning.source import SourceAttention
from xlm_lightning.translator import Translator

SHAPE: dict[str, Any] = {"vocab_size": 50, "num_languages": 2, "layers": 2, "dim": 16, "heads": 2}
STILL = {"dropout": 0.0, "attention_dropout": 0.0}
GERMAN, ENGLISH = torch.tensor([[0]]), torch.tensor([[1]])


def sentences(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """`</s> x </s>` of so many tokens each, padded behind."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(lengths), max(lengths)), PAD_ID)
    for row, length in enumerate(lengths):
        tokens[row, 1 : length - 1] = torch.randint(
            FIRST_WORD_ID, SHAPE["vocab_size"], (length - 2,), generator=generator
        )
        tokens[row, [0, length - 1]] = EOS_ID
    return tokens, torch.tensor(lengths)


def a_step(model: Translator) -> Tensor:
    """The loss of one batch."""
    tokens, lengths = sentences([9, 5, 7], seed=1)
    target, _ = sentences([6, 8, 4], seed=2)
    hidden = model(target[:, :-1], ENGLISH, model.encode(tokens, lengths, GERMAN))
    return model.loss(hidden, target[:, 1:].masked_fill(target[:, 1:] == PAD_ID, -100))


@pytest.fixture(scope="module")
def model() -> Translator:
    torch.manual_seed(0)
    return Translator(**SHAPE).eval()


def test_a_decoder_has_eight_tensors_more_in_each_layer() -> None:
    plain, decoder = XLM(**SHAPE), XLM(**SHAPE, reads_source=True)
    more = set(decoder.state_dict()) - set(plain.state_dict())
    parts = ["source_attention.query", "source_attention.keys_values", "source_attention.out"]
    assert more == {
        f"layers.{layer}.{part}.{kind}"
        for layer in range(2)
        for part in [*parts, "source_norm"]
        for kind in ("weight", "bias")
    }
    assert set(plain.state_dict()) <= set(decoder.state_dict())
    assert "reads_source" not in plain.arguments
    assert set(XLM(**decoder.arguments).state_dict()) == set(decoder.state_dict())


@torch.no_grad()
def test_source_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours = SourceAttention(16, 4, 0.0, "auto", "auto")
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.keys_values.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.keys_values.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    model = Translator(**SHAPE).eval()
    source = model.encode(*sentences([9, 4]), GERMAN)
    hidden = torch.randn(2, 6, 16)
    padded = ~source.real[:, 0, 0]
    expected, _ = theirs(hidden, source.hidden, source.hidden, key_padding_mask=padded)
    torch.testing.assert_close(ours(hidden, source), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_padding_changes_nothing(model: Translator) -> None:
    lengths = [9, 5, 2]
    tokens, counts = sentences(lengths)
    target, _ = sentences([6, 6, 6], seed=3)
    together = model(target, ENGLISH, model.encode(tokens, counts, GERMAN))
    more = torch.nn.functional.pad(tokens, (0, 4), value=PAD_ID)
    more[1, 5:] = 20  # nobody looks at it
    padded = model(target, ENGLISH, model.encode(more, counts, GERMAN))
    torch.testing.assert_close(padded, together, atol=1e-6, rtol=0)
    for row, length in enumerate(lengths):
        source = model.encode(tokens[row : row + 1, :length], counts[row : row + 1], GERMAN)
        alone = model(target[row : row + 1], ENGLISH, source)
        torch.testing.assert_close(alone[0], together[row], atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_translation_depends_on_its_source_and_no_later_word(model: Translator) -> None:
    tokens, lengths = sentences([9, 9])
    target = sentences([8])[0].expand(2, -1)
    source = model.encode(tokens, lengths, GERMAN)
    hidden = model(target, ENGLISH, source)
    assert (hidden[0] - hidden[1]).abs().max() > 1e-3
    changed = target.clone()
    changed[:, 5] = 30
    after = model(changed, ENGLISH, source)
    torch.testing.assert_close(after[:, :5], hidden[:, :5], atol=1e-6, rtol=0)
    assert (after[:, 5:] - hidden[:, 5:]).abs().max() > 1e-3
    from_english = model(target, ENGLISH, model.encode(tokens, lengths, ENGLISH))
    assert (from_english - hidden).abs().max() > 1e-3


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_the_gradient_reaches_all_that_takes_part(shared: bool, tied: bool) -> None:
    model = Translator(**SHAPE, shared_embeddings=shared, tied_output=tied)
    a_step(model).backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    of_the_output = {"encoder.output_bias"} | ({"encoder.output_weight"} if not tied else set())
    assert without == of_the_output
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            assert weight.grad.layout == torch.strided, name
            assert float(weight.grad.abs().max()) > 0, name


def test_shared_embeddings_are_the_same_tensors() -> None:
    model = Translator(**SHAPE, shared_embeddings=True)
    assert model.decoder.tokens.weight is model.encoder.tokens.weight
    assert model.decoder.positions.weight is model.encoder.positions.weight
    assert model.decoder.languages is not None
    assert model.decoder.languages is model.encoder.languages
    assert model.decoder.embedding_norm.weight is not model.encoder.embedding_norm.weight
    apart = Translator(**SHAPE)
    more = sum(p.numel() for p in apart.parameters()) - sum(p.numel() for p in model.parameters())
    assert more == (50 + 512 + 2) * 16


@pytest.mark.parametrize("shared", [False, True])
def test_a_stored_model_is_built_again_from_its_arguments(shared: bool) -> None:
    torch.manual_seed(0)
    model = Translator(**SHAPE, shared_embeddings=shared, activation="relu", max_positions=40)
    file = io.BytesIO()
    torch.save({"arguments": model.arguments, "weights": model.state_dict()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    other = Translator(**stored["arguments"])
    other.load_state_dict(stored["weights"])
    assert other.arguments == model.arguments
    assert other.max_positions == 40
    assert (other.decoder.tokens is other.encoder.tokens) == shared
    assert torch.equal(a_step(other.eval()), a_step(model.eval()))


@pytest.mark.parametrize("build", [Translator, lambda **how: Translator(**how).bfloat16()])
def test_gradient_checkpointing_changes_nothing_but_memory(
    build: Callable[..., Translator],
) -> None:
    gradients = []
    for flag in (False, True):
        torch.manual_seed(0)
        model = build(**SHAPE, gradient_checkpointing=flag)
        torch.manual_seed(5)
        a_step(model).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_translation_is_learnt() -> None:
    """Of random words: only the source can tell them, so the loss falls below that of the text."""
    torch.manual_seed(0)
    model = Translator(**SHAPE, **STILL, init="balanced")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(250):
        tokens, lengths = sentences([7] * 16, seed=step % 100)
        target = tokens.clone()  # the same words one further in the vocabulary
        words = tokens >= FIRST_WORD_ID
        target[words] = (tokens[words] - FIRST_WORD_ID + 1) % 36 + FIRST_WORD_ID
        hidden = model(target[:, :-1], ENGLISH, model.encode(tokens, lengths, GERMAN))
        loss = model.loss(hidden, target[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < math.log(36) / 2


@torch.no_grad()
def test_a_decoder_without_a_source_is_a_language_model(model: Translator) -> None:
    tokens = torch.randint(14, 50, (2, 9))
    languages = torch.ones(1, 1, dtype=torch.int64)
    alone = XLM(**model.encoder.arguments).eval()
    own = {n: t for n, t in model.decoder.state_dict().items() if ".source_" not in n}
    alone.load_state_dict(own)
    torch.testing.assert_close(model.decoder(tokens, languages), alone(tokens, languages))


def test_the_operations_of_a_step_are_those_that_torch_counts() -> None:
    """`flops.translation_flops` for matrices and attention, beside a count of what is run."""
    shape = {"layers": 2, "dim": 64, "vocab_size": 500}
    told = {"num_languages": 2, "heads": 4, "dropout": 0.0, "attention_dropout": 0.0}
    model = Translator(**shape, **told, attention="strips")
    tokens, languages = torch.randint(14, 500, (3, 21)), torch.zeros(1, 1, dtype=torch.int64)
    lengths = torch.full((3,), 21)
    with FlopCounterMode(display=False) as counter:
        source = model.encode(tokens, lengths, languages)
        model.loss(model(tokens[:, :-1], languages, source), tokens[:, 1:]).backward()
    said = translation_flops(**shape, source=63, tokens=60, time=20, generated=False)
    assert said == pytest.approx(counter.get_total_flops(), rel=0.03)
