"""Sentences of monolingual shards: each once a pass, across the borders of windows and shards."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.streaming import sentences as sentences_module
from xlm_lightning.streaming.loader import SlotBatches, TrainLoader
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.noise import Noise
from xlm_lightning.streaming.philox import random_words
from xlm_lightning.streaming.plan import PLAN_VERSION, Plan
from xlm_lightning.streaming.rows import Rows
from xlm_lightning.streaming.sentence_slots import SentenceSlots
from xlm_lightning.streaming.sentences import SentenceBatches
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.shares import Shares
from xlm_lightning.streaming.turns import Turns

LONGEST = 20
NOTHING_HIDDEN = Masking(0.15, 0.8, 0.1, 0.0, [])
Sentence = tuple[int, ...]
MakeTexts = Callable[..., Path]


def text(random: np.random.Generator, size: int) -> np.ndarray:
    """`size` tokens of lines: blank ones, short ones, one in twenty above the longest."""
    lines: list[int] = []
    while len(lines) < size:
        length = 30 if random.random() < 0.05 else int(random.integers(0, 12))
        lines += [*random.integers(6, 64, length).tolist(), 1]
    return np.array(lines[:size], "<u2")  # the last line is cut off, as in a train shard


def sentences_in(tokens: np.ndarray) -> list[Sentence]:
    """What there is to train on, by reading token after token."""
    found, line = [], []
    for token in tokens.tolist():
        if token != 1:
            line.append(token)
            continue
        if 1 <= len(line) <= LONGEST:
            found.append(tuple(line))
        line = []
    return found


def sentences_of(rows: Rows) -> list[Sentence]:
    """The sentences of a batch, after looking at what is around them."""
    assert rows.tokens.dtype == np.uint16
    assert rows.tokens.shape[1] == rows.lengths.max()
    found = []
    for tokens, length in zip(rows.tokens.tolist(), rows.lengths.tolist(), strict=True):
        assert tokens[0] == tokens[length - 1] == 1
        assert set(tokens[length:]) <= {2}
        found.append(tuple(tokens[1 : length - 1]))
    return found


@pytest.fixture(scope="module")
def shards_of_text() -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(0)
    sizes = {"de": [512, 1280, 256], "en": [2560, 768, 512, 256, 1024]}
    return {name: [text(random, size) for size in counts] for name, counts in sizes.items()}


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    make_texts: MakeTexts,
    shards_of_text: dict[str, list[np.ndarray]],
) -> Path:
    return make_texts(tmp_path_factory.mktemp("lines"), {"train": shards_of_text})


def batches_of(folder: Path, shares: dict[str, float] | None = None, **limits: int) -> Any:
    manifest = Manifest.load(folder)
    shards = TokenShards(folder, "train", 64, manifest, None, Shares(shares or {}, ["de", "en"]))
    return SentenceBatches(shards, 0, **{"max_tokens": 125, "max_length": LONGEST} | limits)


@pytest.mark.parametrize("max_tokens", [90, 300, 5000])
@pytest.mark.parametrize("window", [150, 151, 400, 65536])
def test_the_batches_of_a_shard_hold_every_sentence_once(
    folder: Path,
    shards_of_text: dict[str, list[np.ndarray]],
    window: int,
    max_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sentences that begin in one window and end in the next are in the first one's batches."""
    monkeypatch.setattr(sentences_module, "WINDOW", window)
    batches = batches_of(folder, max_tokens=max_tokens)
    for language, (name, shards) in enumerate(shards_of_text.items()):
        for shard, tokens in enumerate(shards):
            read = [
                sentences_of(batches.read(language, shard, batch))
                for batch in range(batches.blocks()[name][shard])
            ]
            assert Counter(chain.from_iterable(read)) == Counter(sentences_in(tokens))
            assert all(read)


def loader(folder: Path, objective: str, start: int, rank: int, ranks: int, workers: int) -> Any:
    batches = batches_of(folder)
    slots = SentenceSlots.of(batches, 0, 0.7, Noise())
    plan = Plan(0, 4, batches.shards.blocks(), 0.7)
    turns = Turns({objective: [(0, 1.0)]}, 1)
    return TrainLoader(
        SlotBatches(plan, batches.shards, turns, NOTHING_HIDDEN, sentences=slots),
        lambda: start,
        rank=rank,
        world_size=ranks,
        length=-(-(240 - start) // ranks),
        workers=workers,
        pin_memory=False,
    )


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 1), (3, 0)])
def test_a_pass_holds_every_sentence_once_on_any_ranks(
    folder: Path, shards_of_text: dict[str, list[np.ndarray]], ranks: int, workers: int
) -> None:
    every = [list(loader(folder, "bt", 0, rank, ranks, workers)) for rank in range(ranks)]
    batches = sorted(chain.from_iterable(every), key=lambda batch: batch["slot"])
    for language, (name, shards) in enumerate(shards_of_text.items()):
        own = [batch for batch in batches if batch["language"] == language]
        count = sum(batches_of(folder).blocks()[name])
        assert len(own) >= 2 * count
        passes = [own[:count], own[count : 2 * count]]
        orders = [
            [
                sentence
                for batch in one
                for sentence in sentences_of(
                    Rows(batch["tokens"].numpy(), batch["lengths"].numpy())
                )
            ]
            for one in passes
        ]
        expected = Counter(chain.from_iterable(map(sentences_in, shards)))
        assert Counter(orders[0]) == Counter(orders[1]) == expected
        assert orders[0] != orders[1]


@pytest.mark.parametrize("objective", ["ae", "bt"])
def test_a_run_goes_on_at_any_slot(folder: Path, objective: str) -> None:
    whole = list(loader(folder, objective, 0, 0, 1, 0))
    for start in (1, 2, 17, 101, 239):
        rest = list(loader(folder, objective, start, 0, 1, 0))
        for batch, expected in zip(rest, whole[start:], strict=True):
            assert batch.keys() == expected.keys()
            for name, value in batch.items():
                same = torch.equal if isinstance(value, torch.Tensor) else (lambda a, b: a == b)
                assert same(value, expected[name]), name


def test_a_share_is_the_first_sentences_of_each_shard(
    folder: Path, shards_of_text: dict[str, list[np.ndarray]]
) -> None:
    batches = batches_of(folder, {"de": 0.5, "en": 0})
    assert batches.blocks()["en"] == []
    read = [
        sentence
        for shard, count in enumerate(batches.blocks()["de"])
        for batch in range(count)
        for sentence in sentences_of(batches.read(0, shard, batch))
    ]
    expected: Counter[Sentence] = Counter()
    for tokens in shards_of_text["de"]:
        half = len(tokens) // 2  # the sentence that begins in it is read to its end
        ends = np.flatnonzero(tokens == 1)
        expected.update(sentences_in(tokens[: ends[ends >= half - 1][0] + 1]))
    assert Counter(read) == expected


def test_a_batch_is_never_empty(tmp_path: Path, make_texts: MakeTexts) -> None:
    """Fewer sentences than batches: some come twice, all of them come."""
    line = np.arange(6, 26)
    tokens = np.concatenate([[*line, 1], np.full(300, 7), [1], [*line[:3], 1]]).astype("<u2")
    folder = make_texts(tmp_path, {"train": {"de": [tokens], "en": [tokens]}})
    batches = batches_of(folder)
    (count,) = batches.blocks()["de"]
    read = [sentences_of(batches.read(0, 0, batch)) for batch in range(count)]
    assert count == 4
    assert [len(sentences) for sentences in read] == [1] * 4
    assert {sentences[0] for sentences in read} == {tuple(line), tuple(line[:3])}


def test_a_window_without_a_sentence_repeats_those_of_the_next(
    tmp_path: Path, make_texts: MakeTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentences_module, "WINDOW", 100)
    tokens = np.concatenate([np.full(130, 7), [1], np.tile([8, 9, 1], 60), np.full(100, 7)])
    folder = make_texts(tmp_path, {"train": {"de": [tokens.astype("<u2")], "en": [tokens]}})
    batches = batches_of(folder, max_tokens=50)
    (count,) = batches.blocks()["de"]
    read = [sentences_of(batches.read(0, 0, batch)) for batch in range(count)]
    assert all(set(sentences) == {(8, 9)} for sentences in read)


def test_a_shard_without_a_sentence_is_named(tmp_path: Path, make_texts: MakeTexts) -> None:
    tokens = np.full(300, 7, "<u2")
    batches = batches_of(make_texts(tmp_path, {"train": {"de": [tokens], "en": [tokens]}}))
    with pytest.raises(UserError, match=r"train/en-00000.bin: no line has 1 to data.sentence_max"):
        batches.read(1, 0, 0)


def test_counting_batches_reads_no_text(folder: Path) -> None:
    batches = batches_of(folder)
    assert sum(batches.blocks()["en"]) > 50
    assert batches.shards._maps == {}


def test_rows_of_like_length_lie_together(prepared: Path) -> None:
    """Generated text, sentences of 8 tokens in the mean: 2 % of a batch is padding."""
    shards = TokenShards(prepared, "train", 64)
    batches = SentenceBatches(shards, 0, max_tokens=1000, max_length=100)
    read = [
        batches.read(language, shard, batch)
        for language, name in enumerate(shards.languages)
        for shard, count in enumerate(batches.blocks()[name])
        for batch in range(count)
    ]
    sizes = [rows.tokens.size for rows in read]
    real = sum(int(rows.lengths.sum()) for rows in read)
    assert all((np.diff(rows.lengths) >= 0).all() for rows in read)  # sorted inside, too
    assert 1 - real / sum(sizes) < 0.04
    assert np.mean(sizes) > 800
    assert max(sizes) < 1100


def test_another_seed_groups_other_sentences(prepared: Path) -> None:
    shards = TokenShards(prepared, "train", 64)
    first, second, again = (
        SentenceBatches(shards, seed, max_tokens=1000, max_length=100).read(0, 0, 1).tokens
        for seed in (0, 1, 0)
    )
    assert first.tobytes() == again.tobytes() != second.tobytes()


def test_the_first_batches_are_pinned(tmp_path: Path, make_texts: MakeTexts) -> None:
    """To change them on purpose: raise PLAN_VERSION, since runs could not go on exactly."""
    words = random_words(3 * 65536, 0, 0).reshape(3, -1) % np.uint64(70)
    shards = [np.where(row < 6, 1, row % 64).astype("<u2") for row in words]
    folder = make_texts(tmp_path, {"train": {"de": shards[:1], "en": shards[1:]}})
    batches = batches_of(folder, max_tokens=700)
    slots = SentenceSlots.of(batches, 5, 0.7, Noise())
    digest = hashlib.sha256()
    for number in range(100):
        batch = slots.denoised(slots.plan.slot(number), number)
        digest.update(batch["tokens"].numpy().astype("<u2").tobytes())
        digest.update(batch["source"].numpy().astype("<u2").tobytes())
    assert (PLAN_VERSION, digest.hexdigest()[:16]) == (1, "becb085796759f10")
