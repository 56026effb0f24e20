"""Translations collected on two ranks: their order, scores and files."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from xlm_lightning.bleu import corpus_scores, tokenised_bleu
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.text.vocabulary import UNK, Vocabulary
from xlm_lightning.translation_scores import TranslationScores

SOURCES = ["Ich sehe das Haus.", "Wer ist da?", "Das ist gut, Herr Maier.", "Ja."]
REFERENCES = ["I see the house.", "Who is there?", "That is good, Mr. Maier.", "Yes."]
HYPOTHESES = ["I see a house.", "Who is there?", "This is good, Mr. Maier.", "Yes."]


@pytest.fixture(scope="module")
def pipelines() -> dict[str, TextPipeline]:
    """Of a vocabulary that has letters only, so that every word is cut to pieces."""
    letters = sorted(set("".join([*SOURCES, *REFERENCES, *HYPOTHESES]) + "'x") - {" "})
    pieces = [piece for letter in letters for piece in (letter, f"{letter}@@")]
    vocabulary = Vocabulary(pieces, range(len(pieces), 0, -1))
    return TextModel(["de", "en"], "moses", False, [], vocabulary).pipelines()


def two_ranks(pipelines: dict[str, TextPipeline], folder: Path) -> list[TranslationScores]:
    """Two ranks, each with every other sentence, the last one first; en-de on one alone."""
    ranks = [TranslationScores(pipelines, folder) for _ in range(2)]
    de, en = pipelines["de"], pipelines["en"]
    for rank, scores in enumerate(ranks):
        for number in (rank + 2, rank):
            ids = [en.encode(HYPOTHESES[number])], [en.encode(REFERENCES[number])]
            scores.add("de-en", [number], *ids)
    german = [de.encode(line) for line in SOURCES]
    ranks[1].add("en-de", range(4), german, german)
    return ranks


def finished(pipelines: dict[str, TextPipeline], folder: Path) -> list[dict[str, Any]]:
    """What both ranks return; the first one keeps."""
    given: list[Any] = [None, None]
    all_there = threading.Barrier(2)

    def finish(rank: int, scores: TranslationScores) -> dict[str, Any]:
        def gather(found: Any) -> list[Any]:
            given[rank] = found
            all_there.wait(timeout=10)
            return given

        return scores.finish(gather, split="valid", keep=rank == 0)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(finish, range(2), two_ranks(pipelines, folder)))


def test_two_ranks_find_the_scores_of_one(
    pipelines: dict[str, TextPipeline], tmp_path: Path
) -> None:
    first, second = finished(pipelines, tmp_path)
    assert first == second
    expected = corpus_scores(HYPOTHESES, REFERENCES)
    words = [
        [pipelines["en"].words(pipelines["en"].encode(line)) for line in lines]
        for lines in (HYPOTHESES, REFERENCES)
    ]
    assert words[0][1] == ["Who", "is", "there", "?"]
    assert first["de-en"] == {
        "bleu": expected["bleu"],
        "chrf": expected["chrf"],
        "bleu_tokenised": tokenised_bleu(*words),
        "sentences": 4,
    }
    assert first["en-de"]["bleu"] == pytest.approx(100)
    assert first["mean"]["bleu"] == (first["de-en"]["bleu"] + first["en-de"]["bleu"]) / 2
    assert first["mean"]["bleu_signature"].startswith(
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"
    )
    assert first["mean"]["chrf_signature"].startswith("nrefs:1|case:mixed")
    assert list(first) == ["de-en", "en-de", "mean"]


def test_texts_are_kept_in_order(pipelines: dict[str, TextPipeline], tmp_path: Path) -> None:
    finished(pipelines, tmp_path / "translations")
    read = {
        file.name: file.read_text("utf-8").splitlines()
        for file in (tmp_path / "translations").iterdir()
    }
    assert read == {
        "valid.de-en.txt": HYPOTHESES,
        "valid.de-en.ref.txt": REFERENCES,
        "valid.en-de.txt": SOURCES,
        "valid.en-de.ref.txt": SOURCES,
    }


def test_references_are_written_once(pipelines: dict[str, TextPipeline], tmp_path: Path) -> None:
    finished(pipelines, tmp_path)
    before = (tmp_path / "valid.de-en.ref.txt").stat()
    finished(pipelines, tmp_path)
    assert (tmp_path / "valid.de-en.ref.txt").stat().st_mtime_ns == before.st_mtime_ns


def test_it_is_empty_again(pipelines: dict[str, TextPipeline], tmp_path: Path) -> None:
    (scores, _) = two_ranks(pipelines, tmp_path)
    assert (
        scores.finish(lambda found: [found], split="valid", keep=False)["de-en"]["sentences"] == 2
    )
    assert scores.finish(lambda found: [found], split="valid", keep=True) == {}
    assert not list(tmp_path.iterdir())


def test_an_unknown_word_is_no_hit(pipelines: dict[str, TextPipeline], tmp_path: Path) -> None:
    scores = TranslationScores(pipelines, tmp_path)
    words = pipelines["en"].encode("I see the house.")
    ids = [UNK, *words, UNK]
    scores.add("de-en", [0], [ids], [ids])
    found = scores.finish(lambda one: [one], split="test", keep=True)
    assert found["de-en"]["bleu"] == pytest.approx(100)  # readable text has no special words
    sentence = ["I", "see", "the", "house", "."]
    expected = tokenised_bleu([["<unk>", *sentence, "<unk>"]], [["x", *sentence, "y"]])
    assert found["de-en"]["bleu_tokenised"] == pytest.approx(expected)
    assert expected < 100
    assert (tmp_path / "test.de-en.txt").read_text() == "I see the house.\n"


def test_a_translation_into_nothing_keeps_its_line(
    pipelines: dict[str, TextPipeline], tmp_path: Path
) -> None:
    scores = TranslationScores(pipelines, tmp_path)
    references = [pipelines["en"].encode(line) for line in REFERENCES]
    scores.add("de-en", range(4), [[], references[1], [], []], references)
    found = scores.finish(lambda one: [one], split="test", keep=True)
    assert found["de-en"]["sentences"] == 4
    assert (tmp_path / "test.de-en.txt").read_text() == "\nWho is there?\n\n\n"
