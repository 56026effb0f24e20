"""A new model starts from another's weights: rows go by word and language, not by number."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from building import TINY, Exported, short_run
from in_process import call
from original_files import write_original

from xlm_lightning.errors import UserError
from xlm_lightning.model import XLM
from xlm_lightning.pretrained import load_model
from xlm_lightning.text.vocabulary import SPECIALS, Vocabulary
from xlm_lightning.warm_start import warm_start

LANGUAGES = ["de", "en"]


def new_model(vocabulary: Vocabulary, languages: list[str], **shape: Any) -> XLM:
    torch.manual_seed(11)
    sizes = {"vocab_size": len(vocabulary), "num_languages": len(languages)}
    return XLM(**{**TINY, **sizes, **shape})


def grown(vocabulary: Vocabulary) -> Vocabulary:
    """Other words in front and between, one of the old ones gone, the order turned round."""
    words = ["neu@@", *reversed(vocabulary.words[1:]), "ganz", "nouveau"]
    return Vocabulary(words, [0] * len(words))


def rows(vocabulary: Vocabulary) -> dict[str, int]:
    return {word: row for row, word in enumerate([*SPECIALS, *vocabulary.words])}


def test_rows_are_matched_by_word(exported: Exported) -> None:
    theirs = exported.trained.load_text_model().vocabulary
    ours = grown(theirs)
    model, fresh = new_model(ours, LANGUAGES), new_model(ours, LANGUAGES)
    report = warm_start(model, ours, LANGUAGES, exported.trained)
    known = len(theirs) - 1
    assert report.startswith(f"{known:,} of {known + 3:,} words and 2 of 2 languages start from ")
    own, given, first = model.state_dict(), exported.trained.model.state_dict(), fresh.state_dict()
    there = rows(theirs)
    for word, row in rows(ours).items():
        for name in ("tokens.weight", "output_bias"):
            source = given[name][there[word]] if word in there else first[name][row]
            assert torch.equal(own[name][row], source), (word, name)
    for name in own.keys() - {"tokens.weight", "output_bias"}:
        assert torch.equal(own[name], given[name]), name


def test_a_new_language_keeps_its_first_draw(exported: Exported) -> None:
    vocabulary = exported.trained.load_text_model().vocabulary
    languages = ["cs", "de", "en"]
    model, fresh = new_model(vocabulary, languages), new_model(vocabulary, languages)
    report = warm_start(model, vocabulary, languages, exported.trained)
    assert "2 of 3 languages" in report
    assert report.endswith("; new: cs")
    own, given = model.languages.weight, exported.trained.model.languages.weight
    assert torch.equal(own[1:], given)
    assert torch.equal(own[0], fresh.languages.weight[0])


def test_languages_go_by_name(exported: Exported) -> None:
    """Without `de` before it, `en` is the first language."""
    vocabulary = exported.trained.load_text_model().vocabulary
    model = new_model(vocabulary, ["en", "fr"])
    warm_start(model, vocabulary, ["en", "fr"], exported.trained)
    assert torch.equal(model.languages.weight[0], exported.trained.model.languages.weight[1])


@pytest.mark.parametrize("positions", [40, 100])
def test_positions_that_both_have(exported: Exported, positions: int) -> None:
    vocabulary = exported.trained.load_text_model().vocabulary
    shape = {"max_positions": positions}
    model, fresh = (new_model(vocabulary, LANGUAGES, **shape) for _ in range(2))
    warm_start(model, vocabulary, LANGUAGES, exported.trained)
    both = min(positions, TINY["max_positions"])
    own = model.positions.weight
    assert torch.equal(own[:both], exported.trained.model.positions.weight[:both])
    assert torch.equal(own[both:], fresh.positions.weight[both:])


def test_frozen_sinusoids_stay_sinusoids(exported: Exported) -> None:
    """Learned positions would be frozen under their name."""
    vocabulary = exported.trained.load_text_model().vocabulary
    shape = {"position_init": "fixed_sinusoidal"}
    model, fresh = (new_model(vocabulary, LANGUAGES, **shape) for _ in range(2))
    with pytest.raises(UserError, match="fixed_sinusoidal"):
        warm_start(model, vocabulary, LANGUAGES, exported.trained)
    assert torch.equal(model.positions.weight, fresh.positions.weight)


def test_to_and_from_one_language(exported: Exported) -> None:
    """A model of one language has no language embeddings: nothing to give, nothing to take."""
    text_model = replace(exported.trained.load_text_model(), languages=["de"])
    alone = new_model(text_model.vocabulary, ["de"])
    warm_start(alone, text_model.vocabulary, ["de"], exported.trained)
    assert torch.equal(alone.tokens.weight, exported.trained.model.tokens.weight)
    source = replace(exported.trained, model=alone, languages=["de"])
    model, fresh = (new_model(text_model.vocabulary, LANGUAGES) for _ in range(2))
    report = warm_start(model, text_model.vocabulary, LANGUAGES, source)
    assert "0 of 2 languages" in report
    assert torch.equal(model.languages.weight, fresh.languages.weight)


def test_from_one_that_was_told_no_language(exported: Exported) -> None:
    """What two languages have in common is learned better without; a decoder needs them."""
    vocabulary = exported.trained.load_text_model().vocabulary
    untold = new_model(vocabulary, LANGUAGES, language_embeddings=False)
    source = replace(exported.trained, model=untold)
    model, fresh = (new_model(vocabulary, LANGUAGES) for _ in range(2))
    report = warm_start(model, vocabulary, LANGUAGES, source)
    assert report.endswith("; new: de, en")
    assert torch.equal(model.languages.weight, fresh.languages.weight)
    assert torch.equal(model.tokens.weight, untold.tokens.weight)
    assert torch.equal(model.layers[1].expand.weight, untold.layers[1].expand.weight)


def test_a_decoder_hears_languages_that_are_new(exported: Exported) -> None:
    """Trained words are larger than a first draw, of which a decoder would hear nothing."""
    vocabulary = exported.trained.load_text_model().vocabulary
    large = copy.deepcopy(exported.trained.model)
    large.tokens.weight.data.mul_(20)
    source = replace(exported.trained, model=large)
    languages = ["cs", *LANGUAGES]
    decoder, fresh = (new_model(vocabulary, languages, reads_source=True) for _ in range(2))
    warm_start(decoder, vocabulary, languages, source)
    own, drawn = decoder.languages.weight.data, fresh.languages.weight.data
    assert torch.equal(own[1:], large.languages.weight)
    torch.testing.assert_close(own[0] / own[0].norm(), drawn[0] / drawn[0].norm())
    torch.testing.assert_close(own[0].std(), 0.5 * large.tokens.weight[len(SPECIALS) :].std())
    once = own.clone()
    warm_start(decoder, vocabulary, languages, source)  # as where encoder and decoder share it
    torch.testing.assert_close(decoder.languages.weight.data, once)


@pytest.mark.parametrize("kind", ["folder", "original"])
def test_a_run_that_starts_from_it(
    exported: Exported, prepared_text: Path, tmp_path: Path, kind: str
) -> None:
    """By the command: the report, and a model whose first scores are not those of chance."""
    source = exported.folder
    if kind == "original":
        source = write_original(exported, tmp_path / "original")
    shape = ["model.layers=2", "model.dim=32", "model.heads=4"]
    words = [*short_run(prepared_text, tmp_path / "run"), *shape, f"model.init_from={source}"]
    frozen = [
        "optimizer.lr=1e-30",
        "trainer.max_steps=5",
    ]  # what a run starts from is what it ends with
    outcome = call("xlm-train", *words, *frozen).expect()
    told = re.search(r"([\d,]+) of ([\d,]+) words and 2 of 2 languages start from", outcome.stderr)
    assert told is not None, outcome.stderr
    given = exported.trained.load_text_model().vocabulary
    ours = Vocabulary.load(prepared_text / "vocab")
    shared = [row for word, row in rows(ours).items() if word in rows(given)]
    assert told.groups() == (f"{len(shared):,}", f"{len(ours):,}")
    assert len(SPECIALS) < len(shared) < len(ours)
    trained = load_model(str(tmp_path / "run")).model
    there = [rows(given)[word] for word in rows(ours) if word in rows(given)]
    source_rows = exported.trained.model.tokens.weight[there]
    torch.testing.assert_close(trained.tokens.weight[shared], source_rows, atol=1e-6, rtol=0)
    wanted = exported.trained.model.layers[1].expand.weight
    torch.testing.assert_close(trained.layers[1].expand.weight, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("model.dim=64", "dim 64 / 32"),
        ("model.layers=1", "layers 1 / 2"),
        ("model.heads=2", "heads 2 / 4"),
        ("model.activation=relu", "activation relu / gelu"),
        ("model.tied_output=false", "tied_output False / True"),
        ("model.language_embeddings=false", "language_embeddings False / True"),
    ],
)
def test_another_shape_is_a_mistake(
    exported: Exported, prepared_text: Path, tmp_path: Path, word: str, told: str
) -> None:
    shape = [
        "model.layers=2",
        "model.dim=32",
        "model.heads=4",
        f"model.init_from={exported.folder}",
    ]
    words = [*short_run(prepared_text, tmp_path / "run"), *shape, word]
    said = call("xlm-train", *words).expect(2).stderr
    assert told in said
    assert str(exported.folder) in said
    assert len(said.strip().splitlines()) <= 2
    assert not (tmp_path / "run").exists()
