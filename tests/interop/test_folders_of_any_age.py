"""Folders as the versions of transformers wrote them, from those of 2019 to today's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from building import Exported, copy_of, edit_json, same_weights
from in_process import call
from old_folders import as_of_2019
from parity import load_in_transformers, log_probabilities, random_inputs
from text.hostile import HOSTILE
from transformers import XLMConfig, XLMTokenizer, XLMWithLMHeadModel

from xlm_lightning.pretrained import load_model
from xlm_lightning.trained import TrainedModel


def assert_same(read: TrainedModel, exported: Exported) -> None:
    """Weights bit for bit, languages and the ids of the folder's own rules."""
    assert same_weights(read.model, exported.trained.model)
    assert read.languages == exported.trained.languages
    wanted = replace(exported.trained.load_text_model(), mode="sacremoses").pipelines()
    for language, pipeline in read.load_text_model().pipelines().items():
        ids = pipeline.encode_lines(HOSTILE).ids
        assert ids.tolist() == wanted[language].encode_lines(HOSTILE).ids.tolist()


@pytest.mark.parametrize("preset", ["nmt", "wiki"])
def test_a_folder_of_2019(
    exports: dict[str, Exported], tmp_path: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = as_of_2019(exports[preset], tmp_path / "xlm-clm-ende-tiny")
    read = load_model(str(folder))
    assert read.objective == "clm"
    assert (
        "xlm-clm-ende-tiny does not say causal; it is loaded as a causal" in capsys.readouterr().err
    )
    assert_same(read, exports[preset])


@pytest.mark.parametrize(
    ("name", "causal", "asked", "objective", "told"),
    [
        ("xlm-clm-ende-1024", False, None, "clm", "says causal: false; it is loaded as a causal"),
        ("xlm-clm-ende-1024", True, None, "clm", None),
        ("xlm-clm-ende-1024", False, "clm", "clm", None),
        ("xlm-clm-ende-1024", None, "mlm", "mlm", None),
        ("xlm-mlm-ende-1024", False, None, "mlm", None),
        ("xlm-mlm-ende-1024", None, None, "mlm", None),
        ("some-model", False, None, "mlm", "says causal: false; it is loaded as a masked"),
        ("some-model", None, None, "clm", "does not say causal; it is loaded as a causal"),
    ],
)
def test_what_it_was_trained_for(
    exported: Exported,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    causal: bool | None,
    asked: str | None,
    objective: str,
    told: str | None,
) -> None:
    """The published clm configurations say `causal: false`: the original never stored it."""
    keys = {} if causal is None else {"causal": causal}
    folder = as_of_2019(exported, tmp_path / name, **keys)
    assert load_model(str(folder), asked).objective == objective
    said = capsys.readouterr().err
    assert told in said if told is not None else said == ""


def test_our_own_folder_with_causal_false_is_causal_and_says_so(
    exported: Exported, tmp_path: Path
) -> None:
    folder = copy_of(exported.folder, tmp_path / "model")
    edit_json(folder / "config.json", lambda config: config.update(causal=False))
    words = (f"checkpoint={folder}", "text=Hello you", "language=en")
    overridden = call("xlm-evaluate", *words).expect()
    assert "says causal: false; it is loaded as a causal model" in overridden.stderr
    whole = call("xlm-evaluate", f"checkpoint={exported.folder}", *words[1:]).expect()
    assert overridden.result["en"] == whole.result["en"]
    refused = call("xlm-evaluate", *words, "objective=mlm").expect(2)
    assert "masked language model" in refused.stderr


@pytest.mark.parametrize("preset", ["nmt", "wiki"])
def test_a_folder_that_transformers_saved_again(
    exports: dict[str, Exported], tmp_path: Path, preset: str
) -> None:
    folder = tmp_path / "again"
    load_in_transformers(exports[preset].folder)[0].save_pretrained(folder)
    XLMTokenizer.from_pretrained(exports[preset].folder).save_pretrained(folder)
    read = load_model(str(folder))
    assert read.objective == "clm"
    assert_same(read, exports[preset])


@pytest.mark.parametrize(
    "shape",
    [
        {"sinusoidal_embeddings": True},
        {"gelu_activation": False},
        {"use_lang_emb": False},
        {"tie_word_embeddings": False},
    ],
    ids=str,
)
def test_a_model_born_in_transformers(
    exported: Exported, tmp_path: Path, shape: dict[str, Any]
) -> None:
    """Drawn there with their configuration: our scores are theirs."""
    tokenizer = XLMTokenizer.from_pretrained(exported.folder)
    config = XLMConfig(
        vocab_size=len(tokenizer),
        emb_dim=24,
        n_layers=1,
        n_heads=3,
        n_langs=2,
        causal=True,
        max_position_embeddings=40,
        **shape,
    )
    model = XLMWithLMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "born")
    tokenizer.save_pretrained(tmp_path / "born")
    read = load_model(str(tmp_path / "born"))
    input_ids, langs = random_inputs(read, seed=8)
    with torch.no_grad():
        theirs = model(input_ids, langs=langs)[0].log_softmax(-1)
    torch.testing.assert_close(theirs, log_probabilities(read, input_ids, langs), atol=1e-5, rtol=0)


def test_half_precision_is_read_as_it_is(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    model, _ = load_in_transformers(exported.folder)
    model.half().save_pretrained(folder)
    XLMTokenizer.from_pretrained(exported.folder).save_pretrained(folder)
    read, whole = load_model(str(folder)).model, exported.trained.model
    for name, tensor in read.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, whole.state_dict()[name].half().float())
