"""Loaders: every block and every token once on any ranks and workers; memory does not grow."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xlm_lightning.streaming.evaluation import IGNORED, EvaluationBatches
from xlm_lightning.streaming.loader import SlotBatches, TrainLoader
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.plan import Plan
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import Turns

EOS, PAD = 1, 2
CLM = {"clm": [(0, 1.0)]}
NOTHING_HIDDEN = Masking(0.15, 0.8, 0.1, 0.0, [])


def train_loader(folder: Path, start: int, rank: int, world_size: int, workers: int) -> TrainLoader:
    shards = TokenShards(folder, "train", 64)
    return TrainLoader(
        SlotBatches(Plan(0, 4, shards.blocks(), 0.7), shards, Turns(CLM, 1), NOTHING_HIDDEN),
        lambda: start,
        rank=rank,
        world_size=world_size,
        length=-(-120 // world_size),
        workers=workers,
        pin_memory=False,
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_a_pass_of_all_ranks_holds_every_block_once(
    small_folder: Path, world_size: int, workers: int
) -> None:
    ranks = [
        list(train_loader(small_folder, 0, rank, world_size, workers)) for rank in range(world_size)
    ]
    batches = sorted(chain.from_iterable(ranks), key=lambda batch: batch["slot"])[:120]
    assert [batch["slot"] for batch in batches] == list(range(120))
    for language, name in enumerate(["de", "en"]):
        files = sorted((small_folder / "train").glob(f"{name}-*.bin"))
        every = Counter(
            row.tobytes() for f in files for row in np.fromfile(f, "<u2").reshape(-1, 64)
        )
        rows = [b["tokens"].numpy() for b in batches if b["language"] == language]
        assert len(rows) * 4 > len(list(every.elements()))
        read = [row.tobytes() for row in np.concatenate(rows)]
        assert Counter(read[: every.total()]) == every


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_begins_at_the_slot_that_is_next(small_folder: Path, workers: int) -> None:
    whole = list(train_loader(small_folder, 0, 0, 1, 0))
    rest = train_loader(small_folder, 80, 1, 2, workers)
    for batch, slot in zip(rest, range(81, 120, 2), strict=False):
        assert batch["slot"] == slot
        assert torch.equal(batch["tokens"], whole[slot]["tokens"])


def scored_tokens(batches: list[Any], language: int) -> list[int]:
    """Return the targets in order; check that each input is the token of the text before it."""
    scored: list[int] = []
    for batch in batches:
        assert batch["tokens"].dtype == torch.uint16
        if batch["language"] != language:
            continue
        for inputs, targets in zip(
            batch["tokens"].tolist(), batch["targets"].tolist(), strict=True
        ):
            assert len(inputs) == 63  # the 64th place is never an input in training
            places = [place for place, target in enumerate(targets) if target != IGNORED]
            text = [EOS, *scored, *(targets[place] for place in places)]
            if scored:
                assert places[0] == 16  # a quarter of a stream as context
            begin = len(scored) - places[0]  # where the row begins in the text
            assert inputs[: places[-1] + 1] == text[begin : begin + places[-1] + 1]
            assert set(inputs[places[-1] + 2 :]) <= {PAD}
            scored = text[1:]
    return scored


SIZES = [1, 2, 40, 62, 63, 64, 65, 110, 111, 192, 193, 300]


@pytest.mark.parametrize("size", SIZES)
def test_every_real_token_is_scored_once(tmp_path: Path, make_folder: Any, size: int) -> None:
    """Around block and batch borders; two shards, each padded in its file, are one text."""
    sizes = {"train": {"de": [256], "en": [256]}, "test": {"en": [size, 70], "de": [5]}}
    folder = make_folder(tmp_path, sizes)
    batches = EvaluationBatches(TokenShards(folder, "test", 64), 3)
    texts = {
        name: np.concatenate(
            [
                np.fromfile(folder / f"test/{name}-{i:05d}.bin", "<u2")[:count]
                for i, count in enumerate(counts)
            ]
        ).tolist()
        for name, counts in sizes["test"].items()
    }
    everything = [batches[i] for i in range(len(batches))]
    assert scored_tokens(everything, 0) == texts["de"]
    assert scored_tokens(everything, 1) == texts["en"]
    assert [b["language"] for b in everything] == [0, *[1] * (len(everything) - 1)]
    prefix = EvaluationBatches(TokenShards(folder, "test", 64), 3, max_tokens=66)
    assert scored_tokens([prefix[i] for i in range(len(prefix))], 1) == texts["en"][:66]


def test_a_language_that_the_split_lacks_is_passed_over(tmp_path: Path, make_folder: Any) -> None:
    sizes = {"train": {"de": [256], "en": [256]}, "test": {"en": [70]}}
    batches = EvaluationBatches(TokenShards(make_folder(tmp_path, sizes), "test", 64), 3)
    assert [batches[i]["language"] for i in range(len(batches))] == [1]


def test_an_empty_batch_scores_nothing(small_folder: Path) -> None:
    batches = EvaluationBatches(TokenShards(small_folder, "valid", 64), 3)
    empty = batches[len(batches)]
    assert empty["tokens"].shape == (1, 63)
    assert (empty["targets"] == IGNORED).all()


MEMORY = """
import sys
from pathlib import Path
from xlm_lightning.streaming.loader import SlotBatches
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.plan import Plan
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import Turns

def anonymous_kilobytes():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])

shards = TokenShards(Path(sys.argv[1]), "train", 256)
masking = Masking(0.15, 0.8, 0.1, 0.0, [])
turns = Turns({"clm": [(0, 1.0)]}, 1)
batches = SlotBatches(Plan(0, 64, shards.blocks(), 0.7), shards, turns, masking)
for slot in range(200):
    batches[slot]
before = anonymous_kilobytes()
for slot in range(200, 10_000):
    batches[slot]
print(anonymous_kilobytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_anonymous_memory_does_not_grow(tmp_path: Path, make_folder: Any) -> None:
    """Many passes over 20 MB in a process of its own; all batches would be 330 MB."""
    folder = make_folder(tmp_path, {"train": {"de": [256 * 2000] * 8, "en": [256 * 2000] * 12}})
    grown = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder)], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < 8_000
