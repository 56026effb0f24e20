"""Sentence pairs of the tiny sample corpus, from its raw lines to the rows of a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.run_folder import prepared_text_model
from xlm_lightning.streaming import pairs as pairs_module
from xlm_lightning.streaming.pair_evaluation import PairEvaluationBatches
from xlm_lightning.streaming.pair_slots import PairSlots
from xlm_lightning.streaming.pairs import PairShards

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def shards_of(folder: Path, split: str = "train", **changes: int) -> PairShards:
    limits = {"max_tokens": 500, "max_length": 100} | changes
    return PairShards(folder, split, Manifest.load(folder), **limits)


@pytest.fixture(scope="module")
def lines(prepared: Path) -> list[Pair]:
    """The ids of the raw parallel train text, line by line, by the text pipeline alone."""
    manifest = Manifest.load(prepared)
    model = prepared_text_model(prepared, manifest)
    assert manifest.text["mode"] == "moses"
    raw = prepared.with_name(f"{prepared.name}_raw")
    sides = [
        [
            tuple(pipeline.encode(line))
            for line in (raw / f"parallel.train.{language}.txt").read_text().splitlines()
        ]
        for language, pipeline in model.pipelines().items()
    ]
    return list(zip(*sides, strict=True))


def test_rows_are_both_sentences_with_their_languages_and_positions(
    prepared: Path, lines: list[Pair]
) -> None:
    numbers = np.array([0, 7, len(lines) - 1])
    rows = shards_of(prepared).rows(0, numbers)
    for row, number in enumerate(numbers):
        first, second = ([1, *ids, 1] for ids in lines[number])
        length = rows.lengths[row]
        assert rows.tokens[row, :length].tolist() == first + second
        assert rows.positions[row, :length].tolist() == [*range(len(first)), *range(len(second))]
        assert rows.languages[row, :length].tolist() == [0] * len(first) + [1] * len(second)
        assert (rows.tokens[row, length:] == 2).all()
        assert rows.real[row].sum() == length


@pytest.mark.parametrize("window", [50, 65536])
def test_a_pass_holds_every_pair_once(
    prepared: Path, lines: list[Pair], window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_module, "WINDOW", window)
    slots = PairSlots.of(shards_of(prepared), seed=0, alpha=0.7)
    total = sum(slots.batches.blocks()["de-en"])
    seen, sizes = [], []
    for number in range(total):
        place = slots.plan.slot(number)
        where = (place.language, int(place.shard[0]), int(place.block[0]))
        rows = slots.batches.shards.rows(place.language, slots.batches.numbers(*where))
        assert rows.tokens.size <= 500
        sizes.append((rows.lengths.sum(), rows.tokens.size))
        seen += rows.numbers.tolist()
    assert sorted(seen) == list(range(len(lines)))
    assert seen != sorted(seen)
    real, padded = np.sum(sizes, axis=0)
    # Rows of like length lie together, the better the more there are to choose from.
    assert real / padded > (0.9 if window > len(lines) else 0.8)


def test_another_seed_visits_in_another_order(prepared: Path) -> None:
    def first(seed: int) -> list[int]:
        slots = PairSlots.of(shards_of(prepared), seed=seed, alpha=0.7)
        place = slots.plan.slot(0)
        return slots.batches.numbers(0, int(place.shard[0]), int(place.block[0])).tolist()

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_long_sentences_are_left_out(prepared: Path, lines: list[Pair]) -> None:
    shards = shards_of(prepared, max_length=12)
    kept = np.flatnonzero(shards.tokens(0, 0))
    expected = [n for n, (a, b) in enumerate(lines) if max(len(a), len(b)) <= 12]
    assert kept.tolist() == expected
    assert 0 < len(expected) < len(lines)
    with pytest.raises(UserError, match=r"de-en: no pair .*sentence_max_length=1 tokens"):
        PairSlots.of(shards_of(prepared, max_length=1), seed=0, alpha=0.7)


def test_evaluation_asks_of_every_pair_the_same_tokens_whatever_the_batch(prepared: Path) -> None:
    def asked(max_tokens: int) -> dict[int, list[int]]:
        shards = shards_of(prepared, "valid", max_tokens=max_tokens)
        batches = PairEvaluationBatches(shards)
        found: dict[int, list[int]] = {}
        for index in range(len(batches)):
            batch = batches[index]
            _, numbers = batches._batches[index]
            row = batch["places"] // batch["tokens"].shape[1]
            for place, target in zip(row.tolist(), batch["targets"].tolist(), strict=True):
                found.setdefault(int(numbers[place]), []).append(target)
        return found

    small, large = asked(200), asked(3000)
    assert small == large
    assert len(small) == len(np.flatnonzero(shards_of(prepared, "valid").tokens(0, 0)))


def test_evaluation_can_be_limited(prepared: Path) -> None:
    shards = shards_of(prepared, "valid")
    limited = PairEvaluationBatches(shards, 1000)
    tokens = sum(int(limited[index]["lengths"].sum()) for index in range(len(limited)))
    assert 900 < tokens <= 1000
    assert limited[len(limited)]["targets"].numel() == 0  # for a rank that has none left
