"""Batches of ae, bt and mt: what is in them, in training, after a restart and in scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from object_store import files_of
from toy_training import Run, data_module, make_trainer, read_log, train
from toy_training import ToyModel as Toy

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.streaming.loader import SlotBatches
from xlm_lightning.streaming.mirror import Mirror
from xlm_lightning.streaming.noise import Noise
from xlm_lightning.streaming.pairs import PairShards, directions
from xlm_lightning.streaming.read_ahead import fetch_at_start
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.splits import ScoredSplit
from xlm_lightning.streaming.translation_evaluation import TranslationEvaluationBatches

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint dir")

ALWAYS = [(0, 1.0)]
ALL = dict.fromkeys(("ae", "bt", "mt"), ALWAYS)
PAIRS = ("de-en", "en-fr")
Lines = list[list[int]]
Data = dict[str, Any]


def lines_of(random: np.random.Generator, count: int) -> Lines:
    return [[*random.integers(6, 64, random.integers(1, 20)).tolist(), 1] for _ in range(count)]


@pytest.fixture(scope="module")
def parallel() -> dict[str, dict[str, dict[str, Lines]]]:
    """Two pairs of languages in each split; 40 and 30 lines, a blank one among them."""
    random = np.random.default_rng(2)
    made = {
        split: {
            pair: {name: lines_of(random, count) for name in pair.split("-")}
            for pair, count in zip(PAIRS, (40, 30), strict=True)
        }
        for split in ("train", "valid", "test")
    }
    made["valid"]["de-en"]["de"][3] = [1]
    return made


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, make_texts: Callable[..., Path], parallel: Any
) -> Path:
    return make_texts(tmp_path_factory.mktemp("translated"), texts(), parallel)


def texts(languages: Sequence[str] = ("de", "en", "fr")) -> dict[str, Any]:
    random = np.random.default_rng(3)

    def shard(size: int) -> np.ndarray:
        return np.array([i for line in lines_of(random, size) for i in line][:size], "<u2")

    splits = {"train": [512, 768], "valid": [300], "test": [256]}
    return {
        split: {name: [shard(size) for size in sizes] for name in languages}
        for split, sizes in splits.items()
    }


def slots_of(folder: Path, objectives: Mapping[str, Any], **changes: Any) -> SlotBatches:
    data = data_module(Run(folder, folder, 1), objectives=objectives, **changes)
    return SlotBatches(
        data.plan,
        data.train_shards,
        data.turns,
        data.masking,
        pairs=data.pair_slots,
        sentences=data.sentence_slots,
        overfit_slots=data.overfit_slots,
    )


def rows_of(batch: Any, tokens: str = "tokens", lengths: str = "lengths") -> list[list[int]]:
    """The lines of a batch, each with its </s>, after looking at what is around them."""
    assert batch[tokens].dtype == torch.uint16
    assert batch[lengths].dtype == torch.int64
    rows = []
    for row, length in zip(batch[tokens].tolist(), batch[lengths].tolist(), strict=True):
        assert row[0] == row[length - 1] == 1
        assert set(row[length:]) <= {2}
        rows.append(row[1:length])
    return rows


def test_directions_are_those_of_all_pairs() -> None:
    assert directions(["de-en", "en-fr"]) == ["de-en", "en-de", "en-fr", "fr-en"]
    assert directions([]) == []


def test_ae_restores_sentences_of_one_language(folder: Path) -> None:
    for batch in map(slots_of(folder, {"ae": ALWAYS}).__getitem__, range(20)):
        assert batch["source_language"] == batch["language"]
        assert batch["objective"] == "ae"
        assert batch["real_tokens"] == batch["lengths"].sum()
        clean, noisy = rows_of(batch), rows_of(batch, "source", "source_lengths")
        assert len(clean) == len(noisy)
        for line, seen in zip(clean, noisy, strict=True):
            assert not Counter(seen) - Counter([*line, *[5] * len(line)])
    plain = slots_of(folder, {"ae": ALWAYS}, noise=Noise(0, 0, 0))[3]
    assert torch.equal(plain["source"], plain["tokens"])
    assert torch.equal(plain["source_lengths"], plain["lengths"])


def test_bt_comes_from_any_other_language(folder: Path) -> None:
    slots = slots_of(folder, {"bt": ALWAYS})
    batches = [slots[slot] for slot in range(900)]
    assert all("source" not in batch and rows_of(batch) for batch in batches[:50])
    drawn = Counter((batch["language"], batch["source_language"]) for batch in batches)
    assert set(drawn) == {(a, b) for a in range(3) for b in range(3) if a != b}
    for language in range(3):
        counts = [count for (target, _), count in drawn.items() if target == language]
        assert abs(counts[0] - counts[1]) < 4 * sum(counts) ** 0.5


def test_bt_leaves_out_what_the_shares_leave_out(folder: Path) -> None:
    slots = slots_of(folder, {"bt": ALWAYS}, shares={"en": 0})
    drawn = {(slots[s]["language"], slots[s]["source_language"]) for s in range(100)}
    assert drawn == {(0, 2), (2, 0)}


def test_bt_needs_two_languages(folder: Path, tmp_path: Path) -> None:
    run = Run(folder, tmp_path, 1)
    data = data_module(run, objectives={"bt": ALWAYS}, shares={"en": 0, "fr": 0})
    with pytest.raises(UserError, match="there is text of de only"):
        make_trainer(run).fit(Toy(run), datamodule=data)


def test_mt_goes_both_ways_and_holds_every_pair_once_a_pass(folder: Path, parallel: Any) -> None:
    slots = slots_of(folder, {"mt": ALWAYS})
    names, languages = directions(PAIRS), ["de", "en", "fr"]
    found: dict[str, list[tuple[list[int], list[int]]]] = {}
    for slot in range(80):
        batch = slots[slot]
        name = names[batch["pair"]]
        sides = [languages[batch["source_language"]], languages[batch["language"]]]
        assert "-".join(sides) == name
        source, target = rows_of(batch, "source", "source_lengths"), rows_of(batch)
        assert batch["real_tokens"] == sum(map(len, target)) + len(target)
        forward = name in PAIRS
        pair = name if forward else "-".join(reversed(sides))
        rows = zip(source, target, strict=True) if forward else zip(target, source, strict=True)
        found.setdefault(pair, []).extend(rows)
        found.setdefault(name + " seen", [])
    assert {f"{name} seen" for name in names} <= found.keys()
    for pair in PAIRS:
        lines = list(zip(*parallel["train"][pair].values(), strict=True))
        once = found[pair][: len(lines)]
        assert sorted(once) == sorted(lines)


def test_the_first_pairs_only(folder: Path, parallel: Any) -> None:
    few = slots_of(folder, {"mt": ALWAYS}, max_pairs=7)
    lines = {
        tuple(line)
        for pair in PAIRS
        for side in parallel["train"][pair].values()
        for line in side[:7]
    }
    read = {tuple(row) for slot in range(60) for row in rows_of(few[slot])}
    assert read == lines
    shards = PairShards(
        folder, "train", Manifest.load(folder), max_tokens=99, max_length=50, max_pairs=35
    )
    assert [shards.lines(pair) for pair in range(2)] == [35, 30]


def test_overfitting_repeats_the_first_sentences(folder: Path) -> None:
    slots = slots_of(folder, ALL, overfit_slots=2)
    batches = [slots[slot] for slot in range(18)]
    for first, later in zip(batches[:6], batches[6:12], strict=True):
        assert first["objective"] == later["objective"]
        if first["objective"] != "mt":  # it may go the other way
            assert torch.equal(first["tokens"], later["tokens"])


def test_a_run_goes_on_at_every_step(folder: Path, tmp_path: Path) -> None:
    """All three in turn, with workers and without."""
    run = Run(folder, tmp_path / "whole", 7, accumulate=2)
    make_trainer(run).fit(Toy(run), datamodule=data_module(run, objectives=ALL))
    whole = read_log(run.out)
    assert len({entry["sha256"] for entry in whole}) == len(whole) == 14
    for step in range(1, 7):
        again = replace(run, out=tmp_path / str(step), workers=step % 2)
        make_trainer(again).fit(
            Toy(again),
            datamodule=data_module(again, objectives=ALL),
            ckpt_path=run.out / f"step={step}.ckpt",
            weights_only=True,
        )
        assert read_log(again.out) == whole[2 * step :]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"noise": Noise(3, 0.2, 0.1)}, "give objective.noise the same values"),
        ({"max_pairs": 9}, "max_pairs is 9, the checkpoint has None; set data.max_pairs=null"),
        ({"sentence_tokens": 99}, "set data.sentence_tokens=100"),
    ],
    ids=["noise", "max_pairs", "sentence_tokens"],
)
def test_other_data_is_refused(folder: Path, tmp_path: Path, changes: Data, told: str) -> None:
    run = Run(folder, tmp_path, 1)
    make_trainer(run).fit(Toy(run), datamodule=data_module(run, objectives=ALL))
    with pytest.raises(UserError, match=told):
        make_trainer(replace(run, steps=2)).fit(
            Toy(run),
            datamodule=data_module(run, objectives=ALL, **changes),
            ckpt_path=tmp_path / "step=1.ckpt",
            weights_only=True,
        )


def test_a_checkpoint_from_before_translation_is_gone_on_with(folder: Path, tmp_path: Path) -> None:
    run = Run(folder, tmp_path, 2)
    train(run)
    written = tmp_path / "step=1.ckpt"
    content = torch.load(written, weights_only=True)
    state = content["StreamingDataModule"]
    for name in ("noise", "max_pairs"):
        assert state.pop(name) is None
    for name in ("tokens", "max_length"):
        state[f"pair_{name}"] = state.pop(f"sentence_{name}")
    torch.save(content, written)
    again = replace(run, out=tmp_path / "again", resume=written)
    train(again)
    assert read_log(again.out) == read_log(run.out)[1:]
    with pytest.raises(UserError, match=r"set data\.sentence_max_length=50"):
        make_trainer(run).fit(
            Toy(run),
            datamodule=data_module(run, sentence_max_length=49),
            ckpt_path=written,
            weights_only=True,
        )


@pytest.mark.parametrize(
    ("objective", "missing", "told"),
    [
        ("mt", "train", "objective.mt needs parallel text, and .* has none for train"),
        ("mt", "test", "objective.mt needs parallel text, and .* has none for test"),
        ("ae", "train", None),
        ("bt", "train", None),
        ("bt", "valid", "objective.bt needs parallel text to be scored on, .*de-en.valid="),
    ],
)
def test_parallel_text_is_asked_for_where_it_is_needed(
    tmp_path: Path,
    make_texts: Callable[..., Path],
    parallel: Any,
    objective: str,
    missing: str,
    told: str | None,
) -> None:
    present = {split: pairs for split, pairs in parallel.items() if split != missing}
    folder = make_texts(tmp_path, texts(), present)
    if told is None:
        assert rows_of(slots_of(folder, {objective: ALWAYS})[0])
        return
    with pytest.raises(UserError, match=told):
        slots_of(folder, {objective: ALWAYS})


def test_the_ids_are_widened_on_the_device(folder: Path, tmp_path: Path) -> None:
    data = data_module(Run(folder, tmp_path, 1), objectives=ALL)
    slots = slots_of(folder, ALL)
    for slot in range(3):
        wide = data.on_after_batch_transfer(slots[slot], 0)
        assert wide["tokens"].dtype == torch.int64
        assert "source" not in wide or wide["source"].dtype == torch.int64
    assert data.directions == ["de-en", "en-de", "en-fr", "fr-en"]


# --- from an object store -------------------------------------------------------------------------
@pytest.fixture
def mirror(folder: Path, tmp_path: Path) -> Iterator[Mirror]:
    with files_of(folder) as address:
        yield Mirror(f"{address}/", tmp_path / "cache", 1, 1)


def test_from_a_store_the_batches_are_the_same(folder: Path, mirror: Mirror) -> None:
    local, remote = slots_of(folder, ALL), slots_of(mirror.folder, ALL, mirror=mirror)
    for slot in range(90):
        here, there = local[slot], remote[slot]
        assert torch.equal(here["tokens"], there["tokens"])
        assert ("source" in here) == ("source" in there)
        assert "source" not in here or torch.equal(here["source"], there["source"])
    assert set(remote._shards._maps) <= set(mirror.needed)  # whose windows are over are closed


@pytest.mark.parametrize("objective", ["ae", "bt", "mt"])
def test_only_what_is_read_is_fetched(folder: Path, mirror: Mirror, objective: str) -> None:
    """At the start parallel text; of single languages nothing that is not trained on."""
    data = data_module(Run(mirror.folder, folder, 1), objectives={objective: ALWAYS}, mirror=mirror)
    fetch_at_start(mirror, data.plan, [objective])
    manifest = mirror.manifest
    expected = {
        name
        for split in ("train", "valid", "test")
        if split != "train" or objective == "mt"
        for name in manifest.read_files(split, parallel=True)
    }
    here = {str(path.relative_to(mirror.folder)) for path in mirror.folder.glob("*/*.*")}
    assert {name for name in here if not name.endswith(".lock")} == expected


# --- scoring --------------------------------------------------------------------------------------
def scored(folder: Path, max_tokens: int = 100) -> TranslationEvaluationBatches:
    manifest = Manifest.load(folder)
    shards = PairShards(folder, "valid", manifest, max_tokens=max_tokens, max_length=100)
    return TranslationEvaluationBatches(shards)


@pytest.mark.parametrize("max_tokens", [60, 4000])
def test_every_pair_is_scored_once_in_each_direction(
    folder: Path, parallel: Any, max_tokens: int
) -> None:
    batches = scored(folder, max_tokens)
    found: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
    count = 0
    for index in range(len(batches)):
        batch = batches[index]
        assert (batch["slot"], batch["objective"]) == (index, "mt")
        source, target = rows_of(batch, "source", "source_lengths"), rows_of(batch)
        for number, *sides in zip(batch["numbers"].tolist(), source, target, strict=True):
            found[directions(PAIRS)[batch["pair"]], number] = tuple(sides)
            count += 1
    assert count == len(found) == 2 * (39 + 30)
    for (direction, number), sides in found.items():
        one, other = direction.split("-")
        lines = parallel["valid"]["-".join(sorted((one, other)))]
        assert sides == (lines[one][number], lines[other][number])


def test_ranks_that_have_none_left_score_nothing(folder: Path) -> None:
    batches = scored(folder)
    usual, nothing = batches[0], batches[len(batches)]
    assert nothing.keys() == usual.keys()
    for name, value in nothing.items():
        if isinstance(value, torch.Tensor):
            assert len(value) == 0
            assert value.dtype == usual[name].dtype
            assert value.dim() == usual[name].dim()


def test_scoring_can_be_limited(folder: Path) -> None:
    shards = PairShards(folder, "valid", Manifest.load(folder), max_tokens=100, max_length=100)
    batches = TranslationEvaluationBatches(shards, 200)
    tokens = [0, 0, 0, 0]
    for index in range(len(batches)):
        batch = batches[index]
        tokens[batch["pair"]] += int((batch["lengths"] + batch["source_lengths"]).sum())
    assert all(150 < count <= 200 for count in tokens)


@pytest.mark.parametrize("objectives", [["ae", "bt"], ["mt"], ["clm", "ae", "bt", "mt"]], ids=str)
def test_translation_is_scored_once_whatever_trains_it(folder: Path, objectives: list[str]) -> None:
    manifest = Manifest.load(folder)
    pairs = PairShards(folder, "valid", manifest, max_tokens=100, max_length=100)
    shards = TokenShards(folder, "valid", 64)
    split = ScoredSplit.of(objectives, shards, pairs, 4, None)
    counts = Counter(split[index]["objective"] for index in range(len(split)))
    assert counts["mt"] == len(TranslationEvaluationBatches(pairs))
    assert set(counts) == {*{"clm"} & set(objectives), "mt"}
    assert len(split[len(split) + 3]["numbers"]) == 0
