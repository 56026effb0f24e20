"""Ids of the fast pipeline against the plain chain, line by line: real, hostile and mixed text."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pytest
from hostile import HOSTILE, LONG, fuzz, long_line
from plain_chain import PlainBpe, PlainChain, plain_casing

from xlm_lightning.text.bpe import BytePairEncoder, learn_bpe, read_codes, write_codes
from xlm_lightning.text.moses import MODES, Mode
from xlm_lightning.text.pipeline import TextPipeline, WordCounter
from xlm_lightning.text.vocabulary import FIRST_WORD_ID, UNK, Vocabulary

LANGUAGES = ("de", "en", "fr", "ro")


@lru_cache(maxsize=8)
def corpus_lines(corpora: Path, split: str, language: str) -> list[str]:
    text = gzip.decompress((corpora / f"{split}.{language}.txt.gz").read_bytes()).decode()
    return text.removesuffix("\n").split("\n")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Codes and vocabulary of the hostile lines, both casings; rare pieces are unknown."""
    words: Counter[str] = Counter()
    for language in LANGUAGES:
        for lower in (False, True):
            counter = WordCounter(language, mode="moses", lowercase_and_remove_accent=lower)
            words += counter.count(HOSTILE)
    return save_text_model(tmp_path_factory.mktemp("hostile"), words, merges=400)


@pytest.fixture(scope="module")
def real_text_model(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Codes and vocabulary of 2,500 train lines of each language."""
    words: Counter[str] = Counter()
    for language in LANGUAGES:
        counter = WordCounter(language, mode="moses", lowercase_and_remove_accent=False)
        words += counter.count(corpus_lines(corpora, "train", language)[::20][:2_500])
    return save_text_model(tmp_path_factory.mktemp("real"), words, merges=4_000)


def save_text_model(folder: Path, words: Counter[str], merges: int) -> tuple[Path, Path]:
    write_codes(folder / "codes", learn_bpe(words, merges))
    bpe = PlainBpe(folder / "codes")
    pieces: Counter[str] = Counter()
    for word, count in words.items():
        for piece in bpe(word):
            pieces[piece] += count
    common = {piece: count for piece, count in pieces.items() if count > 2}
    Vocabulary.from_counts(common).save(folder / "vocab")
    return folder / "codes", folder / "vocab"


def assert_equal(
    language: str, mode: Mode, lines: Sequence[str], text_model: tuple[Path, Path]
) -> None:
    """Compare both presets; the plain tokens are the same for both."""
    plain = PlainChain(language, mode, *text_model)
    tokenized = [plain.tokenize(line) for line in lines]
    for lower in (False, True):
        pipeline = TextPipeline(
            language,
            mode=mode,
            lowercase_and_remove_accent=lower,
            encoder=BytePairEncoder(read_codes(text_model[0])),
            vocabulary=Vocabulary.load(text_model[1]),
        )
        wanted = [plain.ids_of(plain_casing(text) if lower else text) for text in tokenized]
        encoded = pipeline.encode_lines(lines)
        assert len(encoded.line_ends) == len(lines)
        start = 0
        for line, ids, end in zip(lines, wanted, encoded.line_ends.tolist(), strict=True):
            assert encoded.ids[start:end].tolist() == ids, f"{lower=} {line[:300]!r}"
            start = end
        assert start == len(encoded.ids)
        assert encoded.unknown == sum(ids.count(UNK) for ids in wanted)


@pytest.mark.shared
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_real_text(corpora, real_text_model, language, mode):
    valid = corpus_lines(corpora, "valid", language)
    test = corpus_lines(corpora, "test", language)
    lines = valid[:: len(valid) // 1_000][:1_000] + test[:: len(test) // 1_000][:1_000]
    assert len(lines) == 2_000
    assert_equal(language, mode, lines, real_text_model)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_all_held_out_text(corpora, real_text_model, language, mode):
    lines = [line for split in ("valid", "test") for line in corpus_lines(corpora, split, language)]
    assert_equal(language, mode, lines, real_text_model)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("language", [*LANGUAGES, "it", "cs", "ru"])
def test_hostile_lines(text_model, language, mode):
    assert_equal(language, mode, HOSTILE, text_model)


@pytest.mark.parametrize(("language", "mode"), [("en", "moses"), ("de", "sacremoses")])
def test_long_words_and_lines(text_model, language, mode):
    assert_equal(language, mode, [*LONG, long_line()], text_model)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_mixed_fragments(text_model, language, mode):
    seed = 10 * LANGUAGES.index(language) + MODES.index(mode)
    assert_equal(language, mode, fuzz(HOSTILE, 600, seed), text_model)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_mixed_fragments_of_real_text(corpora, real_text_model, language, mode):
    fragments = corpus_lines(corpora, "valid", language)[:1_000] + HOSTILE
    assert_equal(language, mode, fuzz(fragments, 10_000, seed=5), real_text_model)


@pytest.mark.parametrize("mode", MODES)
def test_special_words_in_the_text_stay_text(text_model, mode):
    codes, vocabulary = text_model
    pipeline = TextPipeline(
        "en",
        mode=mode,
        lowercase_and_remove_accent=False,
        encoder=BytePairEncoder(read_codes(codes)),
        vocabulary=Vocabulary.load(vocabulary),
    )
    for special in ("<s>", "</s>", "<pad>", "<unk>", "<special0>", "<special1>", "<special9>"):
        for text in (special, f"a {special} b", f"x{special}y", f"'{special}'"):
            ids = pipeline.encode(text)
            assert ids
            assert all(index >= FIRST_WORD_ID or index == UNK for index in ids), text
