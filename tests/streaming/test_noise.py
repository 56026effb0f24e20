"""Noise, against a plain reading of its three rules, sentence by sentence."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from xlm_lightning.streaming.noise import Noise
from xlm_lightning.streaming.philox import NOISE, uniforms
from xlm_lightning.streaming.rows import Rows, rows_of

MASK = 5


def sentences(count: int = 60, longest: int = 30) -> list[list[int]]:
    random = np.random.default_rng(1)
    return [random.integers(14, 90, random.integers(1, longest + 1)).tolist() for _ in range(count)]


def batch_of(lines: list[list[int]]) -> Rows:
    return rows_of([np.array([*line, 1], np.uint16) for line in lines])


def one_by_one(lines: list[list[int]], noise: Noise, seed: int, slot: int) -> list[list[int]]:
    """The three rules with the numbers that a batch of these lines gets."""
    width = max(map(len, lines)) + 2
    chances = uniforms((3, len(lines), width), seed, NOISE, slot)
    result = []
    for row, line in enumerate(lines):
        shuffle, drop, blank = chances[:, row, 1:].tolist()
        moved = sorted(range(len(line)), key=lambda i: i + noise.shuffle * shuffle[i])
        words = [line[i] for i in moved]
        kept = [word for i, word in enumerate(words) if drop[i] >= noise.drop]
        kept = kept or [words[max(range(len(words)), key=lambda i: drop[i])]]
        result.append([MASK if blank[i] < noise.blank else word for i, word in enumerate(kept)])
    return result


def noisy(lines: list[list[int]], noise: Noise, slot: int = 7) -> list[list[int]]:
    """The sentences between the two </s>, after looking at what is around them."""
    rows = noise.of(batch_of(lines), 3, slot)
    assert rows.tokens.dtype == np.uint16
    assert rows.tokens.shape[1] == rows.lengths.max()
    for tokens, length in zip(rows.tokens, rows.lengths, strict=True):
        assert tokens[0] == tokens[length - 1] == 1
        assert (tokens[length:] == 2).all()
    return [
        tokens[1 : length - 1].tolist()
        for tokens, length in zip(rows.tokens, rows.lengths, strict=True)
    ]


@pytest.mark.parametrize(
    "noise",
    [Noise(), Noise(0, 0, 0), Noise(5, 0, 0), Noise(0, 0.5, 0), Noise(0, 0, 0.5), Noise(3, 0.9, 1)],
    ids=str,
)
def test_a_batch_gets_the_noise_of_its_sentences(noise: Noise) -> None:
    lines = sentences()
    assert noisy(lines, noise) == one_by_one(lines, noise, 3, 7)


def test_without_noise_a_sentence_stays_as_it_is() -> None:
    assert noisy(sentences(), Noise(0, 0, 0)) == sentences()


def test_nobody_moves_further_than_the_shuffle_reaches() -> None:
    lines = [list(range(100, 140)) for _ in range(200)]
    moved = np.array(noisy(lines, Noise(3, 0, 0)))
    distance = np.abs(moved - 100 - np.arange(40))
    assert (np.sort(moved, axis=1) == lines).all()
    assert distance.max() <= 3
    assert 0.4 < (distance > 0).mean() < 0.6


def test_shares_are_those_asked_for() -> None:
    lines = [[20] * 50 for _ in range(400)]
    counts = Counter(token for line in noisy(lines, Noise()) for token in line)
    total = 400 * 50
    assert counts.total() == pytest.approx(0.9 * total, rel=0.01)
    assert counts[MASK] == pytest.approx(0.09 * total, rel=0.1)


def test_a_sentence_keeps_a_token_any_of_them() -> None:
    lines = [[20, 21, 22]] * 600
    left = noisy(lines, Noise(3, 0.999, 0))
    assert all(left)
    alone = Counter(line[0] for line in left if len(line) == 1)
    assert set(alone) == {20, 21, 22}
    assert min(alone.values()) > 150


def test_noise_is_of_the_slot_and_the_seed() -> None:
    rows = batch_of(sentences())
    again = [Noise().of(rows, 3, 7).tokens.tobytes() for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] != Noise().of(rows, 3, 8).tokens.tobytes()
    assert again[0] != Noise().of(rows, 4, 7).tokens.tobytes()
    assert batch_of(sentences()).tokens.tobytes() == rows.tokens.tobytes()  # left as it was
