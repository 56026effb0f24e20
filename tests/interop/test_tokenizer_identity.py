"""The text pipeline of an exported folder gives the ids of transformers' XLMTokenizer."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pytest
from building import Exported, export, learn_text_model, random_model, small_corpus
from parity import ask_oracle, ids_in_transformers
from text.hostile import HOSTILE, LONG, fuzz
from transformers import XLMTokenizer

from xlm_lightning.pretrained import load_model
from xlm_lightning.text.pipeline import MAX_WORD_LENGTH
from xlm_lightning.text.vocabulary import FIRST_WORD_ID, SPECIALS, UNK

LANGUAGES = ("de", "en", "fr", "ro")
PRESETS = {"nmt": False, "wiki": True}


@lru_cache(maxsize=12)
def corpus_lines(corpora: Path, split: str, language: str) -> list[str]:
    text = gzip.decompress((corpora / f"{split}.{language}.txt.gz").read_bytes()).decode()
    return text.removesuffix("\n").split("\n")


def four_languages(folder: Path, lines: dict[str, Sequence[str]], merges: int) -> dict[str, Path]:
    """Preset -> exported folder of a tiny model of four languages."""
    for preset, lowercase in PRESETS.items():
        text_model = learn_text_model(
            lines, lowercase_and_remove_accent=lowercase, merges=merges, min_count=4
        )
        export(random_model(text_model, layers=1), folder / preset)
    return {preset: folder / preset for preset in PRESETS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    lines = dict.fromkeys(("fr", "ro"), HOSTILE) | small_corpus()
    return four_languages(tmp_path_factory.mktemp("four"), lines, merges=500)


@pytest.fixture(scope="module")
def real_folders(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Learned from train text, and read on lines that it has not seen."""
    lines = {lang: corpus_lines(corpora, "train", lang)[::50][:1_000] for lang in LANGUAGES}
    return four_languages(tmp_path_factory.mktemp("four_real"), lines, merges=2_000)


def assert_same_ids(folder: Path, language: str, lines: Sequence[str]) -> None:
    tokenizer = XLMTokenizer.from_pretrained(folder)
    pipeline = load_model(str(folder)).load_text_model().pipelines()[language]
    encoded = pipeline.encode_lines([line.replace("\n", " ") for line in lines])
    assert len(encoded.line_ends) == len(lines)
    assert 0 < encoded.unknown < len(encoded.ids) / 2
    start = 0
    for line, end in zip(lines, encoded.line_ends.tolist(), strict=True):
        ours = encoded.ids[start : end - 1].tolist()  # without the `</s>` of the line
        assert ours == ids_in_transformers(tokenizer, line, language), f"{line[:300]!r}"
        start = end


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_lines(folders: dict[str, Path], preset: str, language: str) -> None:
    """2,000 over both presets and all languages."""
    mixed = fuzz(HOSTILE, 300, seed=20 + LANGUAGES.index(language))
    assert_same_ids(folders[preset], language, [*HOSTILE, *mixed])


@pytest.mark.shared
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_share_of_real_text(
    corpora: Path, real_folders: dict[str, Path], preset: str, language: str
) -> None:
    lines = corpus_lines(corpora, "valid", language)
    assert_same_ids(real_folders[preset], language, lines[:: len(lines) // 200][:200])


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_all_held_out_text(
    corpora: Path, real_folders: dict[str, Path], preset: str, language: str
) -> None:
    lines = [line for split in ("valid", "test") for line in corpus_lines(corpora, split, language)]
    assert_same_ids(real_folders[preset], language, lines)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_many_hostile_lines(folders: dict[str, Path], preset: str, language: str) -> None:
    mixed = fuzz(HOSTILE, 2_000, seed=30 + LANGUAGES.index(language))
    assert_same_ids(folders[preset], language, mixed)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("preset", PRESETS)
def test_the_oracle_on_real_text(oracle: Path, corpora: Path, tmp_path: Path, preset: str) -> None:
    lines = {lang: corpus_lines(corpora, "train", lang)[::50][:1_000] for lang in ("de", "en")}
    text_model = learn_text_model(
        lines, lowercase_and_remove_accent=PRESETS[preset], merges=4_000, min_count=1
    )
    made = export(random_model(text_model), tmp_path / "made")
    held_out = tmp_path / "held_out.txt"
    mixed = (
        corpus_lines(corpora, "valid", "en")[:1_000] + corpus_lines(corpora, "valid", "de")[:1_000]
    )
    held_out.write_text("\n".join(mixed), encoding="utf-8")
    code, said = ask_oracle(oracle, made.folder, "--text-file", str(held_out))
    assert code == 0, said


@pytest.mark.parametrize("special", ["<s>", "</s>", "<pad>", "<unk>", "<special0>", "<special1>"])
def test_special_words_in_raw_text_differ_by_design(exported: Exported, special: str) -> None:
    """transformers' `encode` takes `<s>` in a text for the special word; here it is text, so that a
    raw corpus cannot inject one. Past that, with `_tokenize`, it is text there as well."""
    tokenizer = XLMTokenizer.from_pretrained(exported.folder)
    pipeline = load_model(str(exported.folder)).load_text_model().pipelines()["en"]
    line = f"Wikipedia {special} was used"
    ours = pipeline.encode(line)
    assert SPECIALS.index(special) in tokenizer.encode(line)[1:-1]
    assert all(index >= FIRST_WORD_ID or index == UNK for index in ours)
    assert ours == ids_in_transformers(tokenizer, line, "en")


def test_overlong_words_differ_by_design(exported: Exported) -> None:
    """BPE takes more than linear time in a word's length: here such a word is one `<unk>`."""
    tokenizer = XLMTokenizer.from_pretrained(exported.folder)
    pipeline = load_model(str(exported.folder)).load_text_model().pipelines()["en"]
    longest = "a" * MAX_WORD_LENGTH
    assert pipeline.encode(longest) == ids_in_transformers(tokenizer, longest, "en")
    assert pipeline.encode(f"a {longest}a b")[1:-1] == [UNK]
    assert len(ids_in_transformers(tokenizer, f"a {longest}a b", "en")) > 3
    assert any(len(line) > MAX_WORD_LENGTH for line in LONG)
