"""Learning merges: against a naive learner, fastBPE's own, and itself."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from xlm_lightning.text.bpe_learning import learn_bpe

Code = tuple[str, str, int]


def naive_merges(counts: dict[str, int], merges: int) -> list[Code]:
    """Count every pair anew before each merge; ties go to the smaller strings."""
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in counts}
    codes: list[Code] = []
    while len(codes) < merges:
        pairs = count_pairs(words, counts)
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        codes.append((*best, pairs[best]))
        words = {word: merged(symbols, best) for word, symbols in words.items()}
    return codes


def count_pairs(words: dict[str, list[str]], counts: dict[str, int]) -> Counter[tuple[str, str]]:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, symbols in words.items():
        for pair in pairwise(symbols):
            pairs[pair] += counts[word]
    return pairs


def merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    result, index = [], 0
    while index < len(symbols):
        width = 2 if tuple(symbols[index : index + 2]) == pair else 1
        result.append("".join(symbols[index : index + width]))
        index += width
    return result


def random_words(seed: int, letters: str, size: int) -> dict[str, int]:
    mixer = random.Random(seed)
    words = {"".join(mixer.choices(letters, k=mixer.randint(1, 9))) for _ in range(size)}
    return {word: mixer.randint(1, 50) for word in sorted(words)}


@pytest.mark.parametrize("letters", ["ab", "abc", "aé中😀", "abcdefgh", "a"])
@pytest.mark.parametrize("seed", [0, 1])
def test_merges_and_counts_are_those_of_the_definition(letters, seed):
    counts = random_words(seed, letters, 60)
    codes = learn_bpe(counts, 80)
    assert codes == naive_merges(counts, 80)
    assert codes


def test_runs_of_one_letter():
    counts = {"a" * length: length + 1 for length in range(1, 14)} | {"aba": 3, "aabaa": 4}
    assert learn_bpe(counts, 30) == naive_merges(counts, 30)


def test_order_of_the_words_does_not_matter():
    counts = random_words(5, "abcdef", 300)
    shuffled = list(counts.items())
    random.Random(1).shuffle(shuffled)
    assert learn_bpe(dict(shuffled), 200) == learn_bpe(counts, 200)


def test_fewer_merges_are_a_prefix():
    counts = random_words(6, "abcd", 200)
    assert learn_bpe(counts, 20) == learn_bpe(counts, 100)[:20]


def test_nothing_to_learn():
    assert learn_bpe({}, 10) == []
    assert learn_bpe({"a": 5, "": 3}, 10) == []
    assert learn_bpe({"ab": 1}, 10) == []
    assert learn_bpe({"ab": 5}, 0) == []


def test_counts_are_64_bit():
    assert learn_bpe({"xab": 1 << 40, "yab": 1 << 40}, 1) == [("a", "b</w>", 1 << 41)]


def test_merges_of_fastbpe_up_to_ties():
    """merges_of_fastbpe.txt: `fast learnbpe 60` (fastBPE 0.1.0) on each word `count` times.

    Its Python package brings no such program, so what it wrote is kept.
    """
    counts = random_words(7, "abcdefghij", 400)
    lines = Path(__file__).with_name("merges_of_fastbpe.txt").read_text().splitlines()
    fields = [line.split(" ") for line in lines]
    theirs = [(left, right, int(count)) for left, right, count in fields]
    ours = learn_bpe(counts, 60)
    tie = next(i for i in range(60) if ours[i][2] == ours[i + 1][2])  # from here on they may part
    assert tie > 10
    assert theirs[:tie] == ours[:tie]
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in counts}
    for left, right, count in theirs:  # to the end, each of theirs is a best pair by our counting
        pairs = count_pairs(words, counts)
        assert pairs[left, right] == count == max(pairs.values())
        words = {word: merged(symbols, (left, right)) for word, symbols in words.items()}
