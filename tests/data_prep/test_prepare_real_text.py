"""Real text in four languages: the ids in the shards are those of the plain chain, line by line."""

from __future__ import annotations

import gzip
import unicodedata
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from data_prep.verify import verify
from xlm_lightning.manifest import Manifest
from xlm_lightning.text.vocabulary import EOS, Vocabulary

LANGUAGES = ("de", "en", "fr", "ro")
LINES = {"train": 4_000, "valid": 1_000}


@pytest.fixture
def real_files(corpora: Path, tmp_path: Path) -> dict[str, dict[str, list[Path]]]:
    """The first lines of each corpus, packed as they come."""
    files: dict[str, dict[str, list[Path]]] = {}
    for split, count in LINES.items():
        for language in LANGUAGES:
            path = tmp_path / f"{split}.{language}.txt.gz"
            with gzip.open(corpora / f"{split}.{language}.txt.gz") as whole:
                path.write_bytes(gzip.compress(b"".join(islice(whole, count)), 1))
            files.setdefault(split, {})[language] = [path]
    return files


def plain_chain(folder: Path, language: str, *, wiki: bool) -> Callable[[str], list[int]]:
    """One line to ids: sacremoses, casing, fastBPE, vocabulary look-up."""
    bpe = pytest.importorskip("fastBPE").fastBPE(str(folder / "codes"))
    vocabulary = Vocabulary.load(folder / "vocab")
    normalizer = MosesPunctNormalizer(lang=language, pre_replace_unicode_punct=True)
    tokenizer = MosesTokenizer(lang=language)
    romanian = str.maketrans("ŞşŢţȘșȚțĂăÂâÎî", "SsTtSsTtAaAaIi")

    def encode(line: str) -> list[int]:
        text = normalizer.normalize(line)
        text = "".join(c for c in text if unicodedata.category(c)[0] != "C")
        if language == "ro":
            text = text.translate(romanian)
        text = " ".join(tokenizer.tokenize(text, escape=False))
        if wiki:
            text = unicodedata.normalize("NFD", text.rstrip().lower())
            text = "".join(c for c in text if unicodedata.category(c) != "Mn").lower()
        pieces = bpe.apply([text])[0].split() if text else []
        return [*(vocabulary.id(piece) for piece in pieces), EOS]

    return encode


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("wiki", [False, True])
def test_shards_equal_the_plain_chain(real_files, prepare_small, tmp_path, wiki):
    out = tmp_path / "out"
    result = prepare_small(
        out,
        real_files,
        mode="sacremoses",
        lowercase_and_remove_accent=wiki,
        merges=4000,
        workers=2,
        shard_megabytes=0.25,
        max_word_length=1000,
    )
    verify(out)
    manifest = Manifest.load(out)
    for language in LANGUAGES:
        encode = plain_chain(out, language, wiki=wiki)
        for split, count in LINES.items():
            text = gzip.decompress(real_files[split][language][0].read_bytes()).decode()
            lines = text.removesuffix("\n").split("\n")
            assert result[split][language]["lines"] == len(lines) == count
            wanted = [encode(line) for line in lines]
            check_shards(out, manifest, split, language, wanted)


def check_shards(
    out: Path, manifest: Manifest, split: str, language: str, wanted: list[list[int]]
) -> None:
    """Line by line, each shard from its first line on; only the tail of a train shard may lack."""
    first = 0
    for shard in manifest.splits[split][language]:
        ids = np.fromfile(out / shard.name, "<u2")[: shard.tokens].tolist()
        position = 0
        for number, line in enumerate(wanted[first : first + shard.lines], start=first + 1):
            found = ids[position : position + len(line)]
            position += len(line)
            assert found == line[: len(found)], f"{shard.name}: line {number}"
        assert position == shard.tokens + shard.dropped_tail
        assert len(ids) == shard.tokens
        assert shard.dropped_tail == 0 or split == "train"
        first += shard.lines
    assert first == len(wanted)
