"""The model against transformers' XLM with the same weights; its first loss and its learning."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from xlm_lightning.model import PAD_ID, XLM, Initialisation

SHAPE = {"vocab_size": 97, "num_languages": 2, "layers": 3, "dim": 32, "heads": 4}


def their_names(layers: int, tied: bool = True) -> dict[str, list[str]]:
    """Our tensor -> transformers' tensors, stacked along the first axis."""
    names = {
        "tokens.weight": ["transformer.embeddings.weight"],
        "positions.weight": ["transformer.position_embeddings.weight"],
        "languages.weight": ["transformer.lang_embeddings.weight"],
        "embedding_norm": ["transformer.layer_norm_emb"],
        "output_bias": ["pred_layer.proj.bias"],
    }
    if not tied:
        names["output_weight"] = ["pred_layer.proj.weight"]
    for i in range(layers):
        attention = f"transformer.attentions.{i}"
        names |= {
            f"layers.{i}.attention.qkv": [f"{attention}.{part}_lin" for part in "qkv"],
            f"layers.{i}.attention.out": [f"{attention}.out_lin"],
            f"layers.{i}.attention_norm": [f"transformer.layer_norm1.{i}"],
            f"layers.{i}.expand": [f"transformer.ffns.{i}.lin1"],
            f"layers.{i}.contract": [f"transformer.ffns.{i}.lin2"],
            f"layers.{i}.feed_forward_norm": [f"transformer.layer_norm2.{i}"],
        }
    whole = {k: v for k, v in names.items() if k.endswith("weight") or k.startswith("output")}
    for ours, theirs in names.items():
        if ours not in whole:
            for suffix in (".weight", ".bias"):
                whole[ours + suffix] = [name + suffix for name in theirs]
    return whole


def in_transformers(model: XLM, causal: bool = True) -> torch.nn.Module:
    """transformers' XLM of the same shape with the weights of `model`."""
    transformers = pytest.importorskip("transformers")
    shape = model.arguments
    config = transformers.XLMConfig(
        vocab_size=shape["vocab_size"],
        emb_dim=shape["dim"],
        n_layers=shape["layers"],
        n_heads=shape["heads"],
        n_langs=shape["num_languages"],
        max_position_embeddings=shape["max_positions"],
        causal=causal,
        gelu_activation=shape["activation"] == "gelu",
        sinusoidal_embeddings=shape["position_init"] == "fixed_sinusoidal",
        use_lang_emb=shape["language_embeddings"],
        tie_word_embeddings=shape["tied_output"],
        layer_norm_eps=1e-12,
    )
    theirs = transformers.XLMWithLMHeadModel(config).eval()
    state, own = theirs.state_dict(), model.state_dict()
    mapping = their_names(shape["layers"], shape["tied_output"])
    if not shape["language_embeddings"]:
        del mapping["languages.weight"]
    assert set(mapping) == set(own)
    for name, parts in mapping.items():
        for part, tensor in zip(parts, own[name].chunk(len(parts)), strict=True):
            state[part] = tensor
    if shape["tied_output"]:
        state["pred_layer.proj.weight"] = own["tokens.weight"]
    theirs.load_state_dict(state)
    return theirs


@pytest.fixture(scope="module")
def model() -> XLM:
    torch.manual_seed(0)
    return XLM(**SHAPE).eval()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "option",
    [
        {},
        {"activation": "relu"},
        {"position_init": "fixed_sinusoidal"},
        {"language_embeddings": False},
        {"tied_output": False},
    ],
    ids=str,
)
@torch.no_grad()
def test_log_probabilities_equal_transformers(option: dict[str, Any], causal: bool) -> None:
    torch.manual_seed(0)
    model = XLM(**SHAPE, **option).eval()
    theirs = in_transformers(model, causal)
    tokens = torch.randint(14, SHAPE["vocab_size"], (4, 60))
    languages = torch.tensor([0, 1, 0, 1])[:, None]
    ours = model.logits(model(tokens, languages, causal=causal)).log_softmax(-1)
    expected = theirs(tokens, langs=languages.expand_as(tokens)).logits.log_softmax(-1)
    assert (ours - expected).abs().max() < 1e-5


def test_language_and_order_matter(model: XLM) -> None:
    tokens = torch.randint(14, SHAPE["vocab_size"], (1, 20))
    with torch.no_grad():
        german, english = (model(tokens, torch.tensor([[i]])) for i in (0, 1))
        changed = tokens.clone()
        changed[0, -1] = (tokens[0, -1] + 1 - 14) % 80 + 14
        after = model(changed, torch.tensor([[0]]))
    assert (german - english).abs().max() > 1e-3
    assert torch.equal(german[:, :-1], after[:, :-1])  # no position sees a later one
    assert not torch.equal(german[:, -1], after[:, -1])


@torch.no_grad()
def test_initialisation_of_the_original() -> None:
    torch.manual_seed(1)
    model = XLM(vocab_size=3000, num_languages=2, layers=1, dim=64, heads=4, init="original")
    assert abs(float(model.tokens.weight[PAD_ID + 1 :].std()) * 8 - 1) < 0.02
    assert float(model.tokens.weight[PAD_ID].abs().sum()) == 0
    for linear in (model.layers[0].expand, model.layers[0].contract, model.layers[0].attention.qkv):
        bound = linear.in_features**-0.5
        assert float(linear.weight.abs().max()) <= bound
        assert abs(float(linear.weight.std()) / (bound / math.sqrt(3)) - 1) < 0.05
        assert float(linear.bias.abs().max()) <= bound


@pytest.mark.parametrize("init", ["original", "balanced"])
def test_positions_from_sinusoids_spread_as_the_tokens_do(init: Initialisation) -> None:
    model = XLM(
        vocab_size=3000,
        num_languages=2,
        layers=1,
        dim=64,
        heads=4,
        init=init,
        position_init="sinusoidal",
    )
    positions = model.positions.weight
    assert positions.requires_grad
    spread = float(model.tokens.weight[PAD_ID + 1 :].detach().std())
    assert float(positions.detach().square().mean().sqrt()) == pytest.approx(spread, rel=0.02)
    scaled = positions.detach() / spread / math.sqrt(2)
    for place, column in ((0, 1), (7, 0), (300, 12), (511, 33)):
        wave = (math.sin, math.cos)[column % 2]
        expected = wave(place / 10_000 ** (2 * (column // 2) / 64))
        assert float(scaled[place, column]) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("vocab_size", "parameters"), [(64_699, 142_422_203), (64_139, 141_848_203)]
)
def test_published_shapes_have_the_published_sizes(vocab_size: int, parameters: int) -> None:
    with torch.device("meta"):
        model = XLM(vocab_size=vocab_size, num_languages=2, layers=6, dim=1024, heads=8)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_looked_up_rows_add_to_the_gradient_of_the_output_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sparse gradient of the look-up is that of a dense one, padding left out."""
    torch.manual_seed(0)
    model = XLM(**SHAPE, dropout=0, attention_dropout=0)
    tokens = torch.randint(0, 97, (2, 24))
    tokens[1, 20:] = PAD_ID

    def gradient() -> torch.Tensor:
        model.zero_grad()
        model.loss(model(tokens[:, :-1], torch.tensor([[1]])), tokens[:, 1:]).backward()
        assert model.tokens.weight.grad is not None
        return model.tokens.weight.grad

    sparse = gradient()
    assert sparse.layout == torch.strided
    assert torch.equal(sparse, gradient()), "not the same sum twice"
    monkeypatch.setattr(model, "_embed", model.tokens.__call__)
    torch.testing.assert_close(sparse, gradient(), atol=1e-8, rtol=1e-6)


def test_too_many_positions_are_refused(model: XLM) -> None:
    with pytest.raises(ValueError, match="513 positions"):
        model(torch.zeros(1, 513, dtype=torch.long), torch.tensor([[0]]))


def test_gradient_checkpointing_changes_nothing_but_memory(model: XLM) -> None:
    tokens, language = torch.randint(14, 90, (2, 30)), torch.tensor([[0]])
    gradients = []
    for flag in (False, True):
        torch.manual_seed(0)
        other = XLM(**SHAPE, gradient_checkpointing=flag).train()
        torch.manual_seed(5)
        other.loss(other(tokens[:, :-1], language), tokens[:, 1:]).backward()
        gradients.append([p.grad for p in other.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(("vocab_size", "dim"), [(3000, 192), (64_699, 1024)])
def test_first_loss_is_that_of_a_uniform_guess(vocab_size: int, dim: int) -> None:
    torch.manual_seed(0)
    model = XLM(
        vocab_size=vocab_size, num_languages=2, layers=2, dim=dim, heads=4, init="balanced"
    ).train()
    tokens = torch.randint(14, vocab_size, (4, 65))
    loss = model.loss(model(tokens[:, :-1], torch.tensor([[0]])), tokens[:, 1:])
    assert abs(float(loss.detach()) / math.log(vocab_size) - 1) < 0.05


def test_one_batch_again_and_again_is_learnt() -> None:
    torch.manual_seed(0)
    model = XLM(
        vocab_size=300,
        num_languages=2,
        layers=2,
        dim=64,
        heads=4,
        dropout=0.0,
        attention_dropout=0.0,
    )
    tokens, language = torch.randint(14, 300, (4, 33)), torch.tensor([[1]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(model(tokens[:, :-1], language), tokens[:, 1:])
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05
