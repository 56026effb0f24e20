"""What is hidden: shares, places, determinism, and the draw by frequency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xlm_lightning.manifest import Manifest
from xlm_lightning.streaming.masked_evaluation import MaskedEvaluationBatches
from xlm_lightning.streaming.masking import MASK, Masking, mask_for_evaluation
from xlm_lightning.streaming.original_evaluation import OriginalMaskedBatches
from xlm_lightning.streaming.shards import TokenShards

SIZE = 200
COUNTS = [0] * 14 + [10_000 // (rank + 1) for rank in range(SIZE - 14)]


def masking(**changes: Any) -> Masking:
    options = {"share": 0.15, "masked": 0.8, "random": 0.1, "frequency_alpha": 0.0}
    return Masking(**options | {"counts": COUNTS} | changes)


def tokens(batch: int = 64, time: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(14, SIZE, (batch, time)).astype(np.uint16)


def everywhere(rows: np.ndarray) -> np.ndarray:
    return np.ones(rows.shape, bool)


def test_shares_are_those_asked_for() -> None:
    rows = tokens()
    masked = masking().mask(rows, everywhere(rows), 0, 0)
    assert len(masked.places) == pytest.approx(0.15 * rows.size, rel=0.05)
    assert (rows.reshape(-1)[masked.places] == masked.targets).all()
    seen = masked.inputs.reshape(-1)[masked.places]
    assert (seen == MASK).mean() == pytest.approx(0.8, abs=0.03)
    assert (seen == masked.targets).mean() == pytest.approx(0.1, abs=0.02)
    others = seen[(seen != MASK) & (seen != masked.targets)]
    assert others.min() < 14 < 180 < others.max() < SIZE  # any token, special ones included
    untouched = np.ones(rows.size, bool)
    untouched[masked.places] = False
    assert (masked.inputs.reshape(-1) == rows.reshape(-1))[untouched].all()


@pytest.mark.parametrize("frequency_alpha", [0.0, 0.5])
def test_neither_the_first_token_nor_padding_is_hidden(frequency_alpha: float) -> None:
    rows = tokens()
    real = np.arange(256) < np.arange(2, 66)[:, None]
    masked = masking(frequency_alpha=frequency_alpha, share=0.9).mask(rows, real, 0, 0)
    row, column = np.divmod(masked.places, 256)
    assert (column > 0).all()
    assert real[row, column].all()


@pytest.mark.parametrize("frequency_alpha", [0.0, 0.5])
def test_the_choice_is_a_function_of_seed_and_slot(frequency_alpha: float) -> None:
    rows, options = tokens(4, 64), masking(frequency_alpha=frequency_alpha)
    first, again = (options.mask(rows, everywhere(rows), 3, 17) for _ in range(2))
    assert (first.inputs == again.inputs).all()
    assert (first.places == again.places).all()
    for seed, slot in ((4, 17), (3, 18)):
        other = options.mask(rows, everywhere(rows), seed, slot)
        assert other.places.tolist() != first.places.tolist()


def test_rare_tokens_are_hidden_more_often() -> None:
    """Exactly the share is drawn; chances go with count^-0.5, and specials have none."""
    rows = tokens(256, 256)
    rows[:, 5] = 1
    hits = np.zeros(SIZE)
    for slot in range(20):
        masked = masking(frequency_alpha=0.5).mask(rows, everywhere(rows), 0, slot)
        assert len(masked.places) == np.ceil(0.15 * 256 * 255)
        hits += np.bincount(masked.targets, minlength=SIZE)
    assert hits[:14].sum() == 0
    present = np.bincount(rows.reshape(-1), minlength=SIZE)
    rate = hits[14:] / present[14:]
    # Without replacement the share is 1 - exp(-c * weight): log1p undoes it.
    strength = -np.log1p(-rate / 20) / np.sqrt(1 / np.array(COUNTS[14:]))
    assert strength[:5].mean() == pytest.approx(strength[-80:].mean(), rel=0.1)


def test_a_batch_always_asks_something() -> None:
    rows = tokens(1, 2)
    masked = masking(share=1e-9).mask(rows, everywhere(rows), 0, 0)
    assert masked.places.tolist() == [1]
    specials = np.full((2, 5), 1, np.uint16)  # nothing has a weight
    masked = masking(frequency_alpha=1.0).mask(specials, everywhere(specials), 0, 0)
    assert len(masked.places) == 1


def test_evaluation_hides_the_same_tokens_whatever_the_batch(small_folder: Path) -> None:
    shards = TokenShards(small_folder, "valid", 64, Manifest.load(small_folder))

    def asked(batch_size: int) -> list[tuple[int, int]]:
        batches = MaskedEvaluationBatches(shards, batch_size)
        found = []
        for batch in map(batches.__getitem__, range(len(batches))):
            assert (batch["tokens"].flatten()[batch["places"]] == MASK).all()
            found += [(batch["language"], int(target)) for target in batch["targets"]]
        return found

    assert asked(1) == asked(5)
    share = len(asked(1)) / (shards.length("de") + shards.length("en"))
    assert share == pytest.approx(0.15, abs=0.03)


def test_evaluation_reads_the_whole_text_and_its_short_end(small_folder: Path) -> None:
    shards = TokenShards(small_folder, "valid", 64, Manifest.load(small_folder))
    batches = MaskedEvaluationBatches(shards, 3)
    for language, name in enumerate(shards.languages):
        text: list[int] = []
        for batch in map(batches.__getitem__, range(len(batches))):
            if batch["language"] == language:
                rows = batch["tokens"].long().flatten()
                text += rows.scatter(0, batch["places"], batch["targets"]).tolist()
        assert text == shards.read_span(name, 0, shards.length(name)).tolist()
    assert batches[len(batches)]["places"].numel() == 0  # for a rank that has none left


def test_each_row_of_an_evaluation_asks_something() -> None:
    rows = tokens(50, 3)
    masked = mask_for_evaluation(rows, everywhere(rows), 0, np.arange(50))
    assert set(masked.places // 3) == set(range(50))


def test_the_original_s_evaluation_hides_what_its_program_would(small_folder: Path) -> None:
    shards = TokenShards(small_folder, "test", 64, Manifest.load(small_folder))
    batches = OriginalMaskedBatches(shards, 2)
    for language, name in enumerate(shards.languages):
        state = np.random.RandomState(0)
        expected = []
        blocks = -(-shards.length(name) // 64)
        text = np.full(blocks * 64 + 1, 1, np.int64)
        text[-shards.length(name) :] = shards.read_span(name, 0, shards.length(name))
        for block in range(blocks):
            chosen = state.rand(64, 1)[:, 0] <= 0.15
            chosen[0] = chosen[63] = False
            expected += text[block * 64 : block * 64 + 64][chosen].tolist()
        mine = [
            b for b in map(batches.__getitem__, range(len(batches))) if b["language"] == language
        ]
        assert [int(t) for b in mine for t in b["targets"]] == expected
