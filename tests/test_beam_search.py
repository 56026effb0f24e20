"""Beam search against every possible text, and against a plain search without cache or batch."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch

from xlm_lightning.generation import EOS_ID, FIRST_WORD_ID, beam_search, generate_batch
from xlm_lightning.model import XLM

WORDS = range(FIRST_WORD_ID, FIRST_WORD_ID + 4)
Scored = list[tuple[list[int], float]]


@pytest.fixture(scope="module")
def model() -> XLM:
    """Four words, of which the second best is often the better beginning."""
    torch.manual_seed(1)
    model = XLM(
        vocab_size=WORDS.stop, num_languages=2, layers=2, dim=16, heads=2, max_positions=12
    ).eval()
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter *= 2.5
        model.output_bias[EOS_ID] = 0.5
    return model


@functools.cache
@torch.no_grad()
def log_probabilities(model: XLM, *ids: int) -> list[float]:
    """Of the token behind `</s>` and `ids` in language 1, by reading them all."""
    hidden = model(torch.tensor([[EOS_ID, *ids]]), torch.tensor([[1]]))
    return model.logits(hidden)[0, -1].log_softmax(0).tolist()


def all_texts(model: XLM, prompt: list[int], longest: int, penalty: float) -> Scored:
    """Every continuation with its score, best first."""
    sums: dict[tuple[int, ...], float] = {(): 0.0}
    texts: Scored = []
    for length in range(longest):
        for words in itertools.product(WORDS, repeat=length):
            logp = log_probabilities(model, *prompt, *words)
            for token in (*WORDS, EOS_ID):
                total = sums[words] + logp[token]
                if token != EOS_ID:
                    sums[*words, token] = total
                if token == EOS_ID and not prompt and not words:
                    continue  # the empty text
                if token == EOS_ID or length + 1 == longest:
                    text = [*words] if token == EOS_ID else [*words, token]
                    texts.append((text, total / (length + 1) ** penalty))
    return sorted(texts, key=lambda text: -text[1])


def plain_search(
    model: XLM, prompt: list[int], beam: int, longest: int, penalty: float, early: bool
) -> Scored:
    """The original's rules for one text, word for word: `generate_beam` and `BeamHypotheses`."""
    beams: Scored = [([], 0.0)]
    kept: Scored = []
    for length in range(1, longest + 1):
        candidates = [
            (total + logp, ids, token)
            for ids, total in beams
            for token, logp in enumerate(log_probabilities(model, *prompt, *ids))
            if token in WORDS or (token == EOS_ID and (prompt or ids))
        ]
        candidates = sorted(candidates, key=lambda candidate: -candidate[0])[: 2 * beam]
        if len(kept) == beam:
            worst = min(score for _, score in kept)
            if early or worst >= candidates[0][0] / longest**penalty:
                break
        beams = []
        for total, ids, token in candidates:
            if token == EOS_ID or length == longest:
                text = ids if token == EOS_ID else [*ids, token]
                kept = sorted([*kept, (text, total / length**penalty)], key=lambda k: -k[1])[:beam]
            else:
                beams.append(([*ids, token], total))
            if len(beams) == beam:
                break
        if not beams:
            break
    return kept


def check(found: list, expected: Scored) -> None:
    assert [hypothesis.ids for hypothesis in found] == [ids for ids, _ in expected]
    for hypothesis, (_, score) in zip(found, expected, strict=True):
        assert hypothesis.score == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("prompt", [[], [15, 17, 14]])
def test_a_beam_that_holds_everything_finds_the_best(
    model: XLM, prompt: list[int], penalty: float
) -> None:
    beam = 4**4  # as many as there are beginnings: nothing is ever thrown away
    (found,) = beam_search(
        model, [prompt], language=1, beam=beam, length_penalty=penalty, max_new_tokens=4
    )
    check(found, all_texts(model, prompt, 4, penalty)[:beam])


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_a_batch_of_searches_is_the_plain_search_of_each(
    model: XLM, beam: int, penalty: float, early: bool
) -> None:
    prompts = [[15, 17, 14], [], [16], [14] * 7]
    found = beam_search(
        model,
        prompts,
        language=1,
        beam=beam,
        length_penalty=penalty,
        early_stopping=early,
        max_new_tokens=8,
    )
    for hypotheses, prompt in zip(found, prompts, strict=True):
        longest = min(8, model.max_positions - len(prompt))
        check(hypotheses, plain_search(model, prompt, beam, longest, penalty, early))


def test_a_beam_wider_than_the_choice_finds_what_there_is(model: XLM) -> None:
    (found,) = beam_search(model, [[]], language=1, beam=6, max_new_tokens=1)
    check(found, all_texts(model, [], 1, 1.0))
    assert len(found) == len(WORDS)


def test_penalty_and_early_stopping_matter(model: XLM) -> None:
    def best(penalty: float, early: bool = False) -> list[tuple[int, ...]]:
        (found,) = beam_search(
            model,
            [[15]],
            language=1,
            beam=3,
            length_penalty=penalty,
            early_stopping=early,
            max_new_tokens=8,
        )
        return [tuple(hypothesis.ids) for hypothesis in found]

    def mean_length(texts: list[tuple[int, ...]]) -> float:
        return sum(map(len, texts)) / len(texts)

    assert mean_length(best(0.0)) < mean_length(best(2.0))
    assert best(2.0, early=True) != best(2.0)


def test_a_beam_of_one_without_a_penalty_is_greedy_until_it_ends(model: XLM) -> None:
    prompts = [[15, 17, 14], [16], [14] * 7]
    found = beam_search(model, prompts, language=0, beam=1, early_stopping=True, max_new_tokens=10)
    greedy = generate_batch(model, prompts, language=0, max_new_tokens=10)
    for (one,), text in zip(found, greedy, strict=True):
        assert one.ids == text or len(one.ids) < len(text)  # </s> second best is kept as well


def test_the_search_ends_with_the_positions(model: XLM) -> None:
    found = beam_search(model, [[14] * 11, [14]], language=0, beam=2, max_new_tokens=500)
    assert max(len(hypothesis.ids) for hypothesis in found[0]) <= 1
    assert all(len(hypothesis.ids) <= 11 for hypothesis in found[1])
