"""Decoding: the cache changes nothing, the filters cut where they should, a seed fixes the text."""

from __future__ import annotations

import pytest
import torch

from xlm_lightning.generation import EOS_ID, FIRST_WORD_ID, draw, generate
from xlm_lightning.model import XLM


@pytest.fixture(scope="module")
def model() -> XLM:
    torch.manual_seed(0)
    return XLM(vocab_size=60, num_languages=2, layers=2, dim=16, heads=2, max_positions=40).eval()


def greedy_without_cache(model: XLM, prompt: list[int], language: int, new: int) -> list[int]:
    ids = [EOS_ID, *prompt]
    for _ in range(new):
        hidden = model(torch.tensor([ids]), torch.tensor([[language]]))
        ids.append(int(draw_greedy(model.logits(hidden[:, -1]))))
    return ids[1 + len(prompt) :]


def draw_greedy(scores: torch.Tensor) -> torch.Tensor:
    return draw(scores, temperature=0, top_k=None, top_p=None, generator=None)


@pytest.mark.parametrize("language", [0, 1])
@pytest.mark.parametrize("prompt", [[], [20, 33, 41]])
def test_the_cache_changes_no_token(model: XLM, prompt: list[int], language: int) -> None:
    (ids,) = generate(
        model, prompt, language=language, max_new_tokens=20, temperature=0, stop_at_eos=False
    )
    assert ids == greedy_without_cache(model, prompt, language, 20)


def test_a_text_never_grows_past_the_positions(model: XLM) -> None:
    (ids,) = generate(
        model, [20] * 30, language=0, max_new_tokens=500, temperature=0, stop_at_eos=False
    )
    assert len(ids) == 40 - 31 + 1  # the last token is drawn, never read


def test_special_words_are_never_drawn(model: XLM) -> None:
    rows = generate(
        model, [], language=0, num_samples=50, max_new_tokens=20, temperature=5.0, stop_at_eos=False
    )
    assert {i for row in rows for i in row if i < FIRST_WORD_ID} <= {EOS_ID}


def test_a_text_is_never_empty() -> None:
    torch.manual_seed(0)
    model = XLM(vocab_size=60, num_languages=2, layers=1, dim=16, heads=2).eval()
    with torch.no_grad():
        model.output_bias[EOS_ID] = 50
    (text,) = generate(model, [], language=0, max_new_tokens=5, temperature=0)
    assert len(text) == 1  # one word, then the end that the model wants
    assert generate(model, [20], language=0, max_new_tokens=5, temperature=0) == [[]]


def test_a_seed_fixes_the_samples(model: XLM) -> None:
    def sample(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return generate(
            model, [], language=0, num_samples=3, max_new_tokens=12, generator=generator
        )

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_generation_leaves_the_training_mode_alone(model: XLM) -> None:
    model.train()
    generate(model, [], language=0, max_new_tokens=2)
    assert model.training
    model.eval()


def counts(top_k: int | None, top_p: float | None) -> torch.Tensor:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    scores = torch.full((2000, FIRST_WORD_ID + 4), -torch.inf)
    scores[:, FIRST_WORD_ID:] = probabilities.log()
    generator = torch.Generator().manual_seed(0)
    ids = draw(scores, temperature=1.0, top_k=top_k, top_p=top_p, generator=generator)
    return torch.bincount(ids[:, 0] - FIRST_WORD_ID, minlength=4)


def test_top_k_keeps_the_most_probable() -> None:
    assert (counts(2, None) > 0).tolist() == [True, True, False, False]


def test_top_p_keeps_the_least_set_that_reaches_it() -> None:
    assert (counts(None, 0.79) > 0).tolist() == [True, True, False, False]
    assert (counts(None, 0.81) > 0).tolist() == [True, True, True, False]
    assert (counts(None, 0.01) > 0).tolist() == [True, False, False, False]


def test_frequencies_follow_the_probabilities() -> None:
    expected = torch.tensor([1000.0, 600.0, 300.0, 100.0])
    assert ((counts(None, None) - expected).abs() < 5 * expected.sqrt()).all()
