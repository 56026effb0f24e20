"""Beam search for translations: no worse than greedy, and the best where it holds everything."""

from __future__ import annotations

import itertools

import pytest
import torch
from test_translating import BOTH, LENGTHS, default_limit, log_probabilities, sharpened, words
from test_translator import GERMAN, sentences

from xlm_lightning.generation import EOS_ID, FIRST_WORD_ID, Decoder, translate_batch
from xlm_lightning.generation.beam_search import search
from xlm_lightning.translator import Translator


def score(
    model: Translator, source: list[int], ids: list[int], limit: int, penalty: float
) -> float:
    """The objective of a translation: its log-probability / tokens ** penalty."""
    asked = ids if len(ids) == limit else [*ids, EOS_ID]
    logp = log_probabilities(model, source, asked[:-1])
    total = float(logp.gather(1, torch.tensor(asked)[:, None]).sum())
    return total / len(asked) ** penalty


def test_a_beam_of_one_that_keeps_the_greedy_text_is_greedy() -> None:
    model = sharpened(5, eos=2.5)
    tokens, lengths = sentences(LENGTHS)
    with torch.no_grad():
        source = model.encode(tokens, lengths, GERMAN)
        decoder = Decoder(model.decoder, [[]] * 6, language=1, max_new_tokens=20, source=source)
        found = search(decoder, 1, 0.0, early_stopping=True, keep_greedy=True)
    limits = [20] * 6
    greedy = translate_batch(model, words(LENGTHS), **BOTH, max_new_tokens=limits)
    for (best,), source_words, ids in zip(found, words(LENGTHS), greedy, strict=True):
        worth = score(model, source_words, ids, 20, 0.0)
        assert best.score >= worth - 1e-5
        assert best.ids == ids or len(best.ids) < len(ids)  # </s>, second best, was better


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_of_five_never_scores_below_greedy(penalty: float, early: bool) -> None:
    better = 0
    for seed in range(6):
        model = sharpened(seed, eos=0.5, layers=1)
        sources = words([3 + n % 10 for n in range(30)], seed)
        how = {"length_penalty": penalty, "early_stopping": early}
        beam = translate_batch(model, sources, **BOTH, beam=5, **how)
        greedy = translate_batch(model, sources, **BOTH)
        for x, ids, other in zip(sources, beam, greedy, strict=True):
            reached, least = (score(model, x, y, default_limit(x), penalty) for y in (ids, other))
            assert reached >= least - 1e-5
            better += reached > least + 1e-5
    assert better > 90, "of 180: otherwise nothing was put to the test"


@torch.no_grad()
def test_a_beam_alone_would_score_below_greedy() -> None:
    """Why the greedy text is kept: a search may throw it away for nothing as good."""
    worse = 0
    for seed in range(6):
        model = sharpened(seed, eos=0.5, layers=1)
        lengths = [3 + n % 10 for n in range(30)]
        tokens, counts = sentences(lengths, seed)
        source = model.encode(tokens, counts, GERMAN)
        limits = [default_limit(x) for x in words(lengths, seed)]
        best = []
        for keep in (False, True):
            decoder = Decoder(
                model.decoder, [[]] * 30, language=1, max_new_tokens=limits, source=source
            )
            found = search(decoder, 2, 1.0, early_stopping=False, keep_greedy=keep)
            best.append([hypotheses[0].score for hypotheses in found])
        greedy = translate_batch(model, words(lengths, seed), **BOTH)
        for x, ids, limit, plain, kept in zip(
            words(lengths, seed), greedy, limits, *best, strict=True
        ):
            least = score(model, x, ids, limit, 1.0) - 1e-5
            assert kept >= least
            worse += plain < least
    assert worse > 0


def test_a_beam_that_holds_everything_finds_the_best() -> None:
    model = sharpened(1, vocab_size=FIRST_WORD_ID + 3)
    source = [14, 16, 15]
    every = [
        list(ids)
        for n in range(1, 5)
        for ids in itertools.product(range(FIRST_WORD_ID, FIRST_WORD_ID + 3), repeat=n)
    ]
    for penalty in (0.0, 1.0):
        best = max(every, key=lambda ids: score(model, source, ids, 4, penalty))
        found = translate_batch(
            model, [source], **BOTH, beam=81, length_penalty=penalty, max_new_tokens=[4]
        )
        assert found == [best]
