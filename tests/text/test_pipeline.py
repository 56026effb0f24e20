"""What the pipeline promises beside equality: shapes, caches, counts, the way back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hostile import HOSTILE, fuzz
from plain_chain import PlainTokenizer, plain_casing

from xlm_lightning.errors import UserError
from xlm_lightning.text import pipeline as pipeline_module
from xlm_lightning.text.bpe import BytePairEncoder, learn_bpe, read_codes, write_codes
from xlm_lightning.text.moses import MODES, MosesTokenizer, lower_and_remove_accents
from xlm_lightning.text.pipeline import TextPipeline, WordCounter
from xlm_lightning.text.vocabulary import EOS, UNK, Vocabulary

SENTENCES = (
    "Der Hund, der die Katzen des Nachbarn sah, bellte laut.",
    "Die Katzen sahen den Hund und liefen davon!",
    '"Wer bellt da?", fragte der Nachbar.',
    "Das kostet 1,50 Euro (oder 2).",
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> TextPipeline:
    return build(tmp_path_factory.mktemp("pipeline"))


def build(folder: Path) -> TextPipeline:
    words = WordCounter("de", mode="moses", lowercase_and_remove_accent=False).count(SENTENCES)
    write_codes(folder / "codes", learn_bpe(words, 60))
    letters = Counter({letter + end: 5 for word in words for letter in word for end in ("", "@@")})
    pieces = Counter(
        left + right + "@@" for left, right, _ in learn_bpe(words, 60) if "</w>" not in right
    )
    pieces += Counter(left + right[:-4] for left, right, _ in learn_bpe(words, 60) if "<" in right)
    Vocabulary.from_counts(letters + pieces).save(folder / "vocab")
    return open_pipeline(folder)


def open_pipeline(folder: Path, language: str = "de") -> TextPipeline:
    return TextPipeline(
        language,
        mode="moses",
        lowercase_and_remove_accent=False,
        encoder=BytePairEncoder(read_codes(folder / "codes")),
        vocabulary=Vocabulary.load(folder / "vocab"),
    )


def test_shapes_and_blank_lines(pipeline):
    encoded = pipeline.encode_lines(["", SENTENCES[0], "  ", SENTENCES[1], "\u200b\x00"])
    assert (encoded.ids.dtype, encoded.line_ends.dtype) == (np.uint16, np.int64)
    assert encoded.ids[encoded.line_ends - 1].tolist() == [EOS] * 5
    assert np.count_nonzero(encoded.ids == EOS) == 5
    assert np.diff(encoded.line_ends, prepend=0)[[0, 2, 4]].tolist() == [1, 1, 1]
    assert encoded.line_ends[-1] == len(encoded.ids)
    assert encoded.unknown == 0
    start, end = encoded.line_ends[:2]
    assert encoded.ids[start : end - 1].tolist() == pipeline.encode(SENTENCES[0])


def test_no_lines(pipeline):
    encoded = pipeline.encode_lines([])
    assert (encoded.ids.size, encoded.line_ends.size, encoded.unknown) == (0, 0, 0)
    assert encoded.ids.dtype == np.uint16
    assert pipeline.encode("") == []


def test_a_line_holds_no_newline(pipeline):
    with pytest.raises(ValueError, match="newline"):
        pipeline.encode_lines(["a\nb"])
    assert pipeline.encode("Der\nHund") == pipeline.encode("Der Hund")


def test_there_and_back(pipeline):
    for sentence in SENTENCES:
        assert pipeline.decode(pipeline.encode(sentence)) == sentence
        with_specials = [EOS, 0, *pipeline.encode(sentence), 5, EOS]
        assert pipeline.decode(with_specials) == sentence
    assert pipeline.decode([]) == ""


def test_an_overlong_word_is_one_unknown(pipeline):
    longest = "a" * pipeline_module.MAX_WORD_LENGTH
    assert pipeline.encode(f"{longest}a") == [UNK]
    assert UNK not in pipeline.encode(longest)
    encoded = pipeline.encode_lines([f"Der {longest}a Hund", "Der 中 Hund"])
    assert encoded.unknown == 2


@pytest.mark.parametrize("bound", [0, 1, 50, 700])
def test_bounds_of_the_caches_change_nothing(pipeline, tmp_path, monkeypatch, bound):
    lines = [*SENTENCES, *HOSTILE, *fuzz(list(SENTENCES), 200, seed=1), *SENTENCES]
    counter = WordCounter("de", mode="moses", lowercase_and_remove_accent=True)
    wanted, wanted_counts = pipeline.encode_lines(lines), counter.count(lines)
    monkeypatch.setattr(pipeline_module, "MAX_CACHED", bound)
    monkeypatch.setattr(pipeline_module, "BLOCK_LINES", 7)
    small = build(tmp_path)
    for _ in range(2):
        encoded = small.encode_lines(lines)
        np.testing.assert_array_equal(encoded.ids, wanted.ids)
        np.testing.assert_array_equal(encoded.line_ends, wanted.line_ends)
    assert counter.count(lines) == wanted_counts


def test_an_error_on_the_way_leaves_no_wrong_rows(pipeline, tmp_path, monkeypatch):
    disturbed = build(tmp_path)

    def interrupted(words: list[str]) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(disturbed._encoder, "apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            disturbed.encode_lines(SENTENCES)
    np.testing.assert_array_equal(
        disturbed.encode_lines(SENTENCES).ids, pipeline.encode_lines(SENTENCES).ids
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("language", ["en", "ro"])
def test_word_counts_are_those_of_the_plain_chain(language, mode, lower):
    plain = PlainTokenizer(language, mode)
    wanted: Counter[str] = Counter()
    for line in HOSTILE:
        text = plain(line)
        wanted.update((plain_casing(text) if lower else text).split())
    counter = WordCounter(language, mode=mode, lowercase_and_remove_accent=lower)
    assert counter.count(HOSTILE) == wanted
    assert counter.count([]) == Counter()


@pytest.mark.parametrize("mode", MODES)
def test_tokenized_lines_are_those_of_the_plain_chain(mode):
    plain = PlainTokenizer("fr", mode)
    assert MosesTokenizer("fr", mode).tokenize(HOSTILE) == [plain(line) for line in HOSTILE]
    assert MosesTokenizer("fr", mode).tokenize([]) == []


def test_casing_of_preset_wiki():
    assert lower_and_remove_accents("ÀÉÎ Straße ØÆ İI") == "aei straße øæ ii"
    for line in HOSTILE:
        assert lower_and_remove_accents(line).rstrip() == plain_casing(line).rstrip()


def test_unknown_languages_and_modes():
    with pytest.raises(UserError, match="unknown language 'zz'") as caught:
        MosesTokenizer("zz", "moses")
    assert " de " in str(caught.value)
    with pytest.raises(UserError, match="segment"):
        MosesTokenizer("zh", "moses")
    with pytest.raises(UserError, match="sacremoses"):
        MosesTokenizer("fi", "moses")
    with pytest.raises(UserError, match="must be one of"):
        MosesTokenizer("de", "perl")  # type: ignore[arg-type]
