"""Reading shards, and every way in which they can be wrong."""

from __future__ import annotations

import math
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_training import Run, ToyModel, data_module, make_trainer

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.shares import Shares


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(small_folder, tmp_path / "prepared"))


def start_training(folder: Path) -> None:
    run = Run(folder, folder / "out", 1)
    make_trainer(run).fit(ToyModel(run), datamodule=data_module(run))
    raise AssertionError("training began")


def test_rows_are_the_bytes_of_the_file(small_folder: Path) -> None:
    shards = TokenShards(small_folder, "train", 64)
    tokens = shards.read(1, np.array([3, 0, 3]), np.array([7, 39, 0]))
    raw = {i: np.fromfile(small_folder / f"train/en-0000{i}.bin", "<u2") for i in (0, 3)}
    assert tokens.dtype == np.uint16
    assert tokens.shape == (3, 64)
    assert (tokens[0] == raw[3][7 * 64 : 8 * 64]).all()
    assert (tokens[1] == raw[0][39 * 64 : 40 * 64]).all()
    assert (tokens[2] == raw[3][:64]).all()


@pytest.mark.parametrize(("length", "blocks"), [(256, 10), (100, 25), (1, 2560)])
def test_blocks_need_not_divide_a_shard(small_folder: Path, length: int, blocks: int) -> None:
    shards = TokenShards(small_folder, "train", length)
    assert shards.blocks()["en"][0] == blocks
    written = Manifest.load(small_folder).splits["train"]["en"]
    tails = [shard.tokens % length for shard in written]
    assert sum(shards.blocks()["en"]) * length + sum(tails) == shards.length("en") == 8192


def test_a_share_is_the_first_blocks_of_each_shard(small_folder: Path) -> None:
    whole = TokenShards(small_folder, "train", 64).blocks()
    manifest = Manifest.load(small_folder)
    some = Shares({"de": 0.3, "en": 1}, manifest.languages)
    shards = TokenShards(small_folder, "train", 64, manifest, shares=some)
    assert shards.blocks()["en"] == whole["en"]
    assert shards.blocks()["de"] == [math.ceil(0.3 * count) for count in whole["de"]]
    least = Shares({"de": 1e-9}, manifest.languages)
    assert set(TokenShards(small_folder, "train", 64, manifest, shares=least).blocks()["de"]) == {1}


def test_a_language_of_share_0_is_absent(small_folder: Path) -> None:
    manifest = Manifest.load(small_folder)
    without = Shares({"de": 0}, manifest.languages)
    train = TokenShards(small_folder, "train", 64, manifest, shares=without)
    assert train.languages == ["de", "en"]  # the ids stay
    assert train.blocks()["de"] == []
    assert not [name for name in train.names if "de" in name]
    valid = TokenShards(small_folder, "valid", 64, manifest, shares=without)
    assert valid.length("de") == 0
    assert valid.length("en") > 0
    with pytest.raises(UserError, match="Did you mean 'en'"):
        Shares({"eng": 0.5}, manifest.languages)
    with pytest.raises(UserError, match="every language is left out"):
        Shares({"de": 0, "en": 0}, manifest.languages)


def test_a_copy_for_a_worker_leaves_the_maps_behind(small_folder: Path) -> None:
    shards = TokenShards(small_folder, "train", 64)
    rows = shards.read(0, np.array([0]), np.array([0]))
    assert len(pickle.dumps(shards)) < 10_000
    copy: TokenShards = pickle.loads(pickle.dumps(shards))  # noqa: S301
    assert (copy.read(0, np.array([0]), np.array([0])) == rows).all()


def test_a_shard_shorter_than_a_block_is_refused(tmp_path: Path, make_folder: Any) -> None:
    folder = make_folder(tmp_path, {"train": {"de": [512], "en": [512, 256]}})
    with pytest.raises(UserError, match=r"en-00001\.bin has 256 tokens, .*stream_length=300"):
        TokenShards(folder, "train", 300).blocks()


def test_a_truncated_shard(folder: Path) -> None:
    path = folder / "train/de-00001.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"de-00001\.bin has 2046 bytes instead of 2048"):
        start_training(folder)


def test_a_missing_shard(folder: Path) -> None:
    (folder / "train/en-00004.bin").unlink()
    with pytest.raises(UserError, match=r"en-00004\.bin is missing"):
        start_training(folder)


def test_an_extra_shard(folder: Path) -> None:
    shutil.copy(folder / "train/en-00004.bin", folder / "train/en-00006.bin")
    with pytest.raises(UserError, match=r"en-00006\.bin is not in the manifest"):
        start_training(folder)


def test_a_flipped_bit(folder: Path) -> None:
    shards = TokenShards(folder, "train", 64)
    shards.check("train/en-00002.bin")
    path = folder / "train/en-00002.bin"
    data = bytearray(path.read_bytes())
    data[1234] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"en-00002\.bin is damaged: its sha256 is"):
        TokenShards(folder, "train", 64).check("train/en-00002.bin")


def test_a_start_of_training_checks_one_shard(
    tmp_path: Path, make_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The minute chooses it, so that all are checked in the course of many starts."""
    folder = make_folder(tmp_path, {"train": {"de": [256], "en": [256, 256]}})
    checked: list[str] = []
    monkeypatch.setattr(TokenShards, "check", lambda _, name: checked.append(name))
    for minute in range(3):
        clock = SimpleNamespace(time=lambda m=minute: 60.0 * m)
        monkeypatch.setattr("xlm_lightning.data.time", clock)
        with pytest.raises(AssertionError, match="training began"):
            start_training(folder)
    assert sorted(checked) == ["train/de-00000.bin", "train/en-00000.bin", "train/en-00001.bin"]


def test_an_id_outside_the_vocabulary(tmp_path: Path, make_folder: Any) -> None:
    sizes = {"train": {"de": [256]}}
    folder = make_folder(tmp_path, sizes, vocab_size=64)
    manifest = folder / "manifest.json"
    largest = int(np.fromfile(folder / "train/de-00000.bin", "<u2").max())
    manifest.write_text(
        manifest.read_text().replace('"vocab_size": 64', f'"vocab_size": {largest}')
    )
    with pytest.raises(UserError, match=rf"token id {largest}, but .* ends at {largest - 1}"):
        start_training(folder)


def test_a_missing_split(tmp_path: Path, make_folder: Any) -> None:
    folder = make_folder(tmp_path, {"train": {"de": [256]}})
    with pytest.raises(UserError, match=r"has no valid split .*corpus\.valid"):
        TokenShards(folder, "valid", 64)


def test_a_language_without_train_text(tmp_path: Path, make_folder: Any) -> None:
    folder = make_folder(tmp_path, {"train": {"de": [256]}, "valid": {"ro": [9]}})
    with pytest.raises(UserError, match=r"valid split has language 'ro'"):
        TokenShards(folder, "valid", 64)
