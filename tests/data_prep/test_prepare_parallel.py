"""Parallel text: two files line by line, encoded beside the text of each language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from small_preparation import make_text, tree

from data_prep.verify import verify
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.run_folder import prepared_text_model
from xlm_lightning.streaming.pairs import PairShards


@pytest.fixture
def parallel_files(files: Any, tmp_path: Path) -> Any:
    """The small corpus with 1,500 pairs of lines, some of them blank on one side."""
    for seed, language in enumerate(("de", "en")):
        for split, lines in (("train", 1500), ("valid", 60)):
            path = tmp_path / "text" / f"pairs.{split}.{language}.txt"
            path.write_text(make_text(50 + seed, lines), encoding="utf-8")
            files[split][f"de-en.{language}"] = [path]
    return files


def test_lines_stay_together_over_shards(
    parallel_files: Any, prepare_small: Any, tmp_path: Path
) -> None:
    result = prepare_small(tmp_path / "out", parallel_files)
    manifest = Manifest.load(tmp_path / "out")
    assert result["parallel"]["train"]["de-en"]["en"]["lines"] == 1500
    sides = manifest.parallel["train"]["de-en"]
    assert len(sides["de"]) > 2
    assert [s.lines for s in sides["de"]] != [s.lines for s in sides["en"]]  # cut at other lines
    assert set(manifest.splits["train"]) == {"de", "en"}
    assert verify(tmp_path / "out")["shards"] == sum(1 for _ in manifest.shards())
    shards = PairShards(tmp_path / "out", "train", manifest, max_tokens=999, max_length=400)
    model = prepared_text_model(tmp_path / "out", manifest)
    texts = [
        parallel_files["train"][f"de-en.{language}"][0].read_text().split("\n")[:-1]
        for language in ("de", "en")
    ]
    encoded = [
        [pipeline.encode(line) for line in lines]
        for lines, pipeline in zip(texts, model.pipelines().values(), strict=True)
    ]
    kept = np.flatnonzero(shards.tokens(0, 0)).tolist()
    assert kept == [n for n in range(1500) if encoded[0][n] and encoded[1][n]]
    assert len(kept) < 1500
    rows = shards.rows(0, np.array(kept))
    for row, number in enumerate(kept):
        expected = [1, *encoded[0][number], 1, 1, *encoded[1][number], 1]
        assert rows.tokens[row, : rows.lengths[row]].tolist() == expected


def test_parallel_text_changes_nothing_else(
    files: Any, parallel_files: Any, prepare_small: Any, tmp_path: Path
) -> None:
    """Neither codes nor shards: what is learned comes from the text of each language alone."""
    prepare_small(tmp_path / "with", parallel_files)
    alone = {
        split: {name: paths for name, paths in languages.items() if "." not in name}
        for split, languages in parallel_files.items()
    }
    prepare_small(tmp_path / "without", alone)
    with_pairs, without = tree(tmp_path / "with"), tree(tmp_path / "without")
    for name in without.keys() - {"manifest.json", "inputs.json"}:
        assert with_pairs[name] == without[name]


def test_a_split_of_parallel_text_alone(
    parallel_files: Any, prepare_small: Any, tmp_path: Path
) -> None:
    parallel_files["test"] = {
        name: paths for name, paths in parallel_files["valid"].items() if "." in name
    }
    prepare_small(tmp_path / "out", parallel_files)
    manifest = Manifest.load(tmp_path / "out")
    assert set(manifest.splits) == {"train", "valid"}
    assert set(manifest.parallel) == {"train", "valid", "test"}
    verify(tmp_path / "out")


def test_sides_of_unequal_length_are_refused(
    parallel_files: Any, prepare_small: Any, tmp_path: Path
) -> None:
    path = parallel_files["valid"]["de-en.en"][0]
    path.write_text(path.read_text() + "One more.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"corpus\.parallel\.de-en\.valid: 60 lines of de and 61"):
        prepare_small(tmp_path / "out", parallel_files)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_command_takes_the_files_of_a_pair_in_its_order(files: Any, tmp_path: Path) -> None:
    """`en-de` names the English file first; the prepared pair is de-en all the same."""
    for language, text in (("de", "Ein Haus .\n"), ("en", "A house .\n")):
        (tmp_path / f"pair.{language}").write_text(text * 40)
    words = [
        f"corpus.{split}.{language}={files[split][language][0]}"
        for split in ("train", "valid")
        for language in ("de", "en")
    ]
    pair = f"corpus.parallel.en-de.train=[{tmp_path}/pair.en,{tmp_path}/pair.de]"
    out = tmp_path / "out"
    run("xlm-prepare", "corpus=text", *words, pair, "bpe.merges=50", f"out={out}").expect()
    shards = PairShards(out, "train", Manifest.load(out), max_tokens=99, max_length=50)
    rows = shards.rows(0, np.array([0]))
    model = prepared_text_model(out, Manifest.load(out))
    german, english = model.pipelines().values()
    expected = [1, *german.encode("Ein Haus ."), 1, 1, *english.encode("A house ."), 1]
    assert rows.tokens[0].tolist() == expected


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("corpus.parallel.de.train=[a,b]", "corpus.parallel.de: must name two languages"),
        ("corpus.parallel.de-fr.train=[a,b]", "needs corpus.train.fr=FILE"),
        ("corpus.parallel.de-en.train=a", "must be two files: [text in de, text in en]"),
        ("corpus.parallel.de-en.tune=[a,b]", "holds train, valid, test, such as"),
        ("corpus.parallel.de-en.train=[/missing,/missing]", "corpus.parallel.de-en.train"),
    ],
)
def test_mistakes_are_told(word: str, told: str, files: Any, tmp_path: Path) -> None:
    words = [f"corpus.train.{language}={files['train'][language][0]}" for language in ("de", "en")]
    refused = run("xlm-prepare", "corpus=text", *words, word, f"out={tmp_path / 'out'}").expect(2)
    assert told in refused.stderr
    assert not (tmp_path / "out").exists()
