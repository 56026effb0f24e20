"""Decoding: neither cache nor batch changes a text, the filters cut where they should, a seed fixes
the text."""

from __future__ import annotations

import pytest
import torch
from test_model import in_transformers

from xlm_lightning.generation import (
    EOS_ID,
    FIRST_WORD_ID,
    Decoder,
    draw,
    generate,
    generate_batch,
    lay_out_for_decoding,
    seeded_noise,
)
from xlm_lightning.model import XLM

MIXED = [[20, 33, 41], [], [17] * 9, [20, 33, 41], [50], [19, 18] * 6]  # prompts of any length


@pytest.fixture(scope="module")
def model() -> XLM:
    """A model whose texts do not all end, nor run into one token."""
    torch.manual_seed(5)
    model = XLM(vocab_size=60, num_languages=2, layers=2, dim=16, heads=2, max_positions=40).eval()
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter *= 2
        model.positions.weight *= 3
        model.output_bias[EOS_ID] = 1.5
    return model


@torch.no_grad()
def greedy_without_cache(model: XLM, prompt: list[int], language: int, new: int) -> list[int]:
    """The plain loop: the whole text is read again at each step; `</s>` goes on like a word."""
    ids = [EOS_ID, *prompt]
    for _ in range(min(new, model.max_positions - len(prompt))):
        scores = model.logits(model(torch.tensor([ids]), torch.tensor([[language]])))[0, -1]
        scores[[i for i in range(FIRST_WORD_ID) if i != EOS_ID]] = -torch.inf
        ids.append(int(scores.argmax()))
    return ids[1 + len(prompt) :]


def until_eos(ids: list[int]) -> list[int]:
    return ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids


@pytest.mark.parametrize("language", [0, 1])
@pytest.mark.parametrize("prompt", [[], [20, 33, 41]])
def test_the_cache_changes_no_token(model: XLM, prompt: list[int], language: int) -> None:
    (ids,) = generate(
        model, prompt, language=language, max_new_tokens=20, temperature=0, stop_at_eos=False
    )
    assert ids == greedy_without_cache(model, prompt, language, 20)
    assert len(set(ids)) > 3


@pytest.mark.parametrize("stop_at_eos", [False, True])
def test_the_batch_changes_no_token(model: XLM, stop_at_eos: bool) -> None:
    prompts = [prompt or [55] for prompt in MIXED]  # an empty one would not take </s> first
    texts = generate_batch(
        model, prompts, language=1, max_new_tokens=25, temperature=0, stop_at_eos=stop_at_eos
    )
    alone = [greedy_without_cache(model, prompt, 1, 25) for prompt in prompts]
    assert texts == ([until_eos(ids) for ids in alone] if stop_at_eos else alone)
    if stop_at_eos:  # otherwise nothing of the above was put to the test
        assert len({len(text) for text in texts}) > 2


@torch.no_grad()
def test_log_probabilities_of_a_batch_are_those_of_each_alone(model: XLM) -> None:
    together = Decoder(model, MIXED, language=0, max_new_tokens=12)
    ids = torch.randint(FIRST_WORD_ID, 60, (12, len(MIXED)))
    for step in range(11):
        for row, prompt in enumerate(MIXED):
            read = torch.tensor([[EOS_ID, *prompt, *ids[:step, row].tolist()]])
            expected = model.logits(model(read, torch.tensor([[0]])))[0, -1].log_softmax(0)
            deviation = (together.scores[row].log_softmax(0) - expected).abs().max()
            assert deviation < 1e-5, (step, row)
        together.advance(ids[step])


def test_every_position_sees_a_key(model: XLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding too: what a kernel makes of a row without keys is its own affair."""
    masks = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def watched(*tensors: torch.Tensor, attn_mask: torch.Tensor) -> torch.Tensor:
        masks.append(attn_mask)
        return attention(*tensors, attn_mask=attn_mask)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", watched)
    generate_batch(model, MIXED, language=0, max_new_tokens=3)
    assert masks[0].shape == (5, 1, 13, 13)
    assert all((mask > -torch.inf).any(-1).all() for mask in masks)


def test_generation_ends_with_the_last_text(model: XLM) -> None:
    reads = []
    handle = model.register_forward_hook(lambda *call: reads.append(call[1][0].shape[0]))
    texts = generate_batch(model, MIXED, language=1, max_new_tokens=40, temperature=0)
    handle.remove()
    ended = [min(len(text) + 1, 40 - len(p)) for text, p in zip(texts, MIXED, strict=True)]
    assert len(reads) == max(ended)
    assert reads[-1] < len(MIXED)  # rows that have ended are left out in the end


@torch.no_grad()
def test_a_cache_can_be_filled_in_pieces(model: XLM) -> None:
    tokens = torch.randint(FIRST_WORD_ID, 60, (3, 20))
    language = torch.tensor([[1]])
    caches = model.new_caches(20)
    pieces = [model(piece, language, caches) for piece in tokens.split([7, 1, 9, 3], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(tokens, language), atol=1e-5, rtol=0)


@torch.no_grad()
def test_positions_are_those_that_are_given(model: XLM) -> None:
    tokens, language = torch.randint(FIRST_WORD_ID, 60, (2, 9)), torch.tensor([[0]])
    counted = torch.arange(9)
    assert torch.equal(model(tokens, language), model(tokens, language, positions=counted[None]))
    restarted = torch.stack([counted, counted % 5])
    hidden = model(tokens, language, positions=restarted)
    torch.testing.assert_close(hidden[0], model(tokens, language)[0], atol=1e-6, rtol=0)
    assert (hidden[1, 5:] - model(tokens, language)[1, 5:]).abs().max() > 1e-3


@torch.no_grad()
def test_greedy_text_is_that_of_transformers_logits(model: XLM) -> None:
    theirs = in_transformers(model)
    for prompt in ([], [20, 33, 41]):
        ids = torch.tensor([[EOS_ID, *prompt]])
        for _ in range(25):
            logits = theirs(ids, langs=torch.ones_like(ids)).logits[0, -1]
            logits[[i for i in range(FIRST_WORD_ID) if i != EOS_ID]] = -torch.inf
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
        (ours,) = generate(
            model, prompt, language=1, max_new_tokens=25, temperature=0, stop_at_eos=False
        )
        assert ours == ids[0, 1 + len(prompt) :].tolist()


@pytest.mark.parametrize("prompts", [[[20] * 30], [[20] * 30, [20], [20] * 39]])
def test_a_text_never_grows_past_the_positions(model: XLM, prompts: list[list[int]]) -> None:
    texts = generate_batch(model, prompts, language=0, max_new_tokens=500, stop_at_eos=False)
    # The last token is drawn, never read; </s> stands at position 0.
    assert [len(text) for text in texts] == [40 - len(prompt) for prompt in prompts]
    assert texts == [greedy_without_cache(model, prompt, 0, 500) for prompt in prompts]


def test_a_prompt_that_fills_the_model_is_refused(model: XLM) -> None:
    with pytest.raises(ValueError, match="40 tokens"):
        generate_batch(model, [[20], [20] * 40], language=0)


def test_special_words_are_never_drawn(model: XLM) -> None:
    rows = generate(
        model, [], language=0, num_samples=50, max_new_tokens=20, temperature=5.0, stop_at_eos=False
    )
    assert {i for row in rows for i in row if i < FIRST_WORD_ID} == {EOS_ID}


def test_a_text_is_never_empty() -> None:
    torch.manual_seed(0)
    model = XLM(vocab_size=60, num_languages=2, layers=1, dim=16, heads=2).eval()
    with torch.no_grad():
        model.output_bias[EOS_ID] = 50
    (text,) = generate(model, [], language=0, max_new_tokens=5, temperature=0)
    assert len(text) == 1  # one word, then the end that the model wants
    assert generate(model, [20], language=0, max_new_tokens=5, temperature=0) == [[]]
    both = generate_batch(model, [[20], []], language=0, max_new_tokens=5)
    assert both == [[], text]


def test_a_generator_fixes_the_samples(model: XLM) -> None:
    def sample(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return generate(
            model, [], language=0, num_samples=3, max_new_tokens=12, generator=generator
        )

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_a_sample_depends_on_seed_prompt_and_sample_alone(model: XLM) -> None:
    def sample(seed: int, rows: list[tuple[int, int]]) -> list[list[int]]:
        return generate_batch(
            model,
            [MIXED[prompt] for prompt, _ in rows],
            language=0,
            temperature=1.0,
            max_new_tokens=15,
            noise=seeded_noise(seed, rows, 15),
        )

    rows = [(prompt, i) for prompt in range(len(MIXED)) for i in range(3)]
    together = sample(7, rows)
    assert together == [sample(7, [row])[0] for row in rows]
    assert together[:3] != together[9:12]  # the same prompt at two places
    assert len(set(map(tuple, together[:3]))) == 3
    assert together != sample(8, rows)


def test_generation_leaves_the_training_mode_alone(model: XLM) -> None:
    model.train()
    generate(model, [], language=0, max_new_tokens=2)
    assert model.training
    model.eval()


def test_the_layout_for_decoding_changes_no_value(model: XLM) -> None:
    other = XLM(vocab_size=60, num_languages=2, layers=2, dim=16, heads=2, max_positions=40).eval()
    other.load_state_dict(model.state_dict())
    lay_out_for_decoding(other)
    assert other.tokens.weight.stride() == (1, 60)
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    ours, same = (
        generate_batch(one, MIXED, language=0, max_new_tokens=20) for one in (model, other)
    )
    assert ours == same


def counts(top_k: int | None, top_p: float | None, temperature: float = 1.0) -> torch.Tensor:
    """How often four words of 0.15, 0.5, 0.05 and 0.3 come in 2000 draws, best first."""
    probabilities = torch.tensor([0.15, 0.5, 0.05, 0.3])
    scores = torch.full((2000, FIRST_WORD_ID + 5), -torch.inf)
    scores[:, FIRST_WORD_ID:-1] = probabilities.log()  # the last id is impossible
    noise = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise[0] = 1 - 2**-53
    ids = draw(scores, temperature, top_k, top_p, noise)
    return torch.bincount(ids - FIRST_WORD_ID, minlength=4)[torch.tensor([1, 3, 0, 2])]


def test_top_k_keeps_the_most_probable() -> None:
    assert (counts(2, None) > 0).tolist() == [True, True, False, False]
    assert (counts(100, None) > 0).all()


def test_top_p_keeps_the_least_set_that_reaches_it() -> None:
    assert (counts(None, 0.79) > 0).tolist() == [True, True, False, False]
    assert (counts(None, 0.81) > 0).tolist() == [True, True, True, False]
    assert (counts(None, 0.01) > 0).tolist() == [True, False, False, False]
    # of the two best, renormalised, the first has 0.625
    assert (counts(2, 0.62) > 0).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("top_k", "temperature", "shares"),
    [
        (None, 1.0, [0.5, 0.3, 0.15, 0.05]),
        (4, 1.0, [0.5, 0.3, 0.15, 0.05]),
        (2, 1.0, [0.625, 0.375, 0, 0]),
        (None, 0.5, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
    ],
)
def test_frequencies_follow_the_probabilities(
    top_k: int | None, temperature: float, shares: list[float]
) -> None:
    expected = 2000 * torch.tensor(shares)
    drawn = counts(top_k, None, temperature)
    assert ((drawn - expected).abs() <= 5 * expected.sqrt()).all()
    assert drawn.sum() == 2000
