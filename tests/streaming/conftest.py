"""Prepared folders of random tokens, with real hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xlm_lightning.manifest import BLOCK_LENGTH, Manifest, Shard
from xlm_lightning.text.vocabulary import FIRST_WORD_ID

VOCAB_SIZE = 64
PAD = 2
Sizes = Mapping[str, Mapping[str, Sequence[int]]]  # split -> language -> real tokens of each shard
MakeFolder = Callable[[Path, Sizes], Path]
Texts = Mapping[str, Mapping[str, Sequence[np.ndarray]]]  # split -> language -> shards
Parallel = Mapping[str, Mapping[str, Mapping[str, Sequence[Sequence[int]]]]]  # split -> pair -> ...

SMALL: Sizes = {
    "train": {"en": [2560, 1280, 2048, 512, 1024, 768], "de": [1536, 1024, 256]},
    "valid": {"en": [300], "de": [1200]},
    "test": {"en": [256], "de": [77, 300]},
}
# A run of a few steps goes through all of it more than once: 20 and 4 blocks of 64 tokens.
SHORT: Sizes = {**SMALL, "train": {"en": [256] * 5, "de": [256]}}


def write_folder(folder: Path, sizes: Sizes, vocab_size: int = VOCAB_SIZE) -> Path:
    """Write shards of uniformly random ids; valid and test ones are padded to whole blocks."""
    random = np.random.default_rng(0)
    texts = {
        split: {
            language: [random.integers(3, vocab_size, count).astype("<u2") for count in counts]
            for language, counts in languages.items()
        }
        for split, languages in sizes.items()
    }
    return write_texts(folder, texts, vocab_size=vocab_size)


def write_texts(
    folder: Path, texts: Texts, parallel: Parallel | None = None, vocab_size: int = VOCAB_SIZE
) -> Path:
    """Write the tokens of each shard; of parallel text the lines, each with its `</s>`."""
    splits = {
        split: {
            language: [
                _write_shard(folder, f"{split}/{language}-{index:05d}.bin", tokens)
                for index, tokens in enumerate(shards)
            ]
            for language, shards in languages.items()
        }
        for split, languages in texts.items()
    }
    pairs = {
        split: {
            pair: {
                language: [_write_lines(folder, f"{split}/{pair}.{language}-00000.bin", lines)]
                for language, lines in sides.items()
            }
            for pair, sides in pairs_of.items()
        }
        for split, pairs_of in (parallel or {}).items()
    }
    (folder / "codes").write_bytes(b"a b</w> 2\n")
    (folder / "vocab").write_bytes(
        b"".join(b"w%d 2\n" % n for n in range(FIRST_WORD_ID, vocab_size))
    )
    Manifest(
        vocab_size=vocab_size,
        vocab_sha256=_sha256(folder / "vocab"),
        codes_sha256=_sha256(folder / "codes"),
        text={"mode": "moses", "lowercase_and_remove_accent": False},
        splits=splits,
        parallel=pairs,
    ).save(folder)
    return folder


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _write_lines(folder: Path, name: str, lines: Sequence[Sequence[int]]) -> Shard:
    shard = _write_shard(folder, name, np.array([i for line in lines for i in line], "<u2"))
    ends = np.cumsum([len(line) for line in lines]).astype("<u8")
    np.save(folder / shard.docs_name, ends)
    counts = {"lines": len(lines), "documents": len(lines)}
    return replace(shard, **counts, docs_sha256=_sha256(folder / shard.docs_name))


def _write_shard(folder: Path, name: str, tokens: np.ndarray) -> Shard:
    padding = np.full(-len(tokens) % BLOCK_LENGTH, PAD, "<u2")
    data = np.concatenate([tokens, padding]).tobytes()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return Shard(
        name=name,
        bytes=len(data),
        tokens=len(tokens),
        lines=1,
        documents=1,
        unknown=0,
        dropped_tail=0,
        raw_bytes=len(tokens),
        sha256=hashlib.sha256(data).hexdigest(),
        docs_sha256="",
    )


@pytest.fixture(scope="session")
def make_folder() -> MakeFolder:
    """Write a prepared folder with shards of the given sizes."""
    return write_folder


@pytest.fixture(scope="session")
def make_texts() -> Callable[..., Path]:
    """Write a prepared folder of given tokens, see `write_texts`."""
    return write_texts


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two languages, nine small shards; not to be changed by a test."""
    return write_folder(tmp_path_factory.mktemp("prepared"), SMALL)


@pytest.fixture(scope="session")
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two languages, so little text that their passes end every few steps."""
    return write_folder(tmp_path_factory.mktemp("short"), SHORT)
