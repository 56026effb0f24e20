"""A prepared folder with one thing wrong: `verify` names it."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep.verify import verify
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest


@pytest.fixture
def folder(prepared: Path) -> Path:
    return prepared


def change_shard(folder: Path, split: str, what: str, value: object) -> None:
    """Alter the manifest's statement on the first German shard."""
    raw = json.loads((folder / "manifest.json").read_text())
    raw["splits"][split]["de"][0][what] = value
    (folder / "manifest.json").write_text(json.dumps(raw))


def rewrite(folder: Path, split: str, ids: np.ndarray) -> None:
    """Put other ids into the first German shard, and its right hash into the manifest."""
    data = ids.astype("<u2").tobytes()
    (folder / f"{split}/de-00000.bin").write_bytes(data)
    change_shard(folder, split, "sha256", hashlib.sha256(data).hexdigest())


def test_a_whole_folder_is_accepted(folder):
    manifest = Manifest.load(folder)
    assert verify(folder) == {
        "verified": str(folder),
        "vocab_size": manifest.vocab_size,
        "shards": len(list(manifest.shards())),
        "bytes": sum(shard.bytes for shard in manifest.shards()),
        "tokens": sum(shard.tokens for shard in manifest.shards()),
    }


def test_single_bit_flips_are_found_and_named(folder):
    rng = random.Random(0)
    hashed = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    hashed = [path for path in hashed if path.suffix != ".json"]
    for _ in range(100):
        path = rng.choice(hashed)
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=f"{path} is damaged"):
            verify(folder)
        path.write_bytes(whole)
    verify(folder)


@pytest.mark.parametrize(
    "name", ["train/de-00001.bin", "valid/en-00000.docs.npy", "codes", "vocab"]
)
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{folder / name} is missing"):
        verify(folder)


def test_a_truncated_shard_is_named(folder):
    path = folder / "train/de-00000.bin"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(UserError, match=f"{path} has .* bytes instead of"):
        verify(folder)


def test_a_shard_from_elsewhere_is_named(folder):
    stranger = folder / "train/de-00099.bin"
    shutil.copy(folder / "train/de-00000.bin", stranger)
    with pytest.raises(UserError, match=f"{stranger} is not in manifest.json"):
        verify(folder)


def test_ids_beyond_the_vocabulary_are_found(folder):
    ids = np.fromfile(folder / "train/de-00000.bin", "<u2")
    ids[7] = Manifest.load(folder).vocab_size
    rewrite(folder, "train", ids)
    with pytest.raises(UserError, match=r"de-00000\.bin holds the id \d+, the vocabulary ends at"):
        verify(folder)


def test_tokens_in_the_padding_are_found(folder):
    ids = np.fromfile(folder / "valid/de-00000.bin", "<u2")
    assert ids[-1] == 2
    ids[-1] = 20
    rewrite(folder, "valid", ids)
    with pytest.raises(UserError, match="has tokens after its"):
        verify(folder)


@pytest.mark.parametrize("change", ["order", "end", "number", "none"])
def test_documents_that_do_not_fit_are_found(folder, change):
    path = folder / "valid/de-00000.docs.npy"
    ends = np.load(path)
    if change == "order":
        ends[0], ends[1] = ends[1], ends[0]
    elif change == "end":
        ends[-1] += 1
    elif change == "number":
        change_shard(folder, "valid", "documents", len(ends) + 1)
    if change == "none":
        path.write_bytes(b"no array")
    else:
        np.save(path, ends)
    change_shard(folder, "valid", "docs_sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(UserError, match=str(path)):
        verify(folder)


def test_counts_that_do_not_fit_are_found(folder):
    change_shard(folder, "train", "tokens", 256)
    with pytest.raises(UserError, match=r"de-00000\.bin has \d+ bytes for 256 tokens"):
        verify(folder)


def test_special_ids_are_compared_where_they_are_recorded(folder):
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    raw["special_ids"]["<pad>"] = 0
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"manifest\.json: special_ids are .*'<pad>': 0"):
        verify(folder)
    del raw["special_ids"]  # as in folders from before they were recorded
    path.write_text(json.dumps(raw))
    assert Manifest.load(folder).special_ids == {}
    verify(folder)


def test_an_unprepared_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="is not a prepared folder"):
        verify(tmp_path)
