"""A `.pth` of the original program: read as it is, exported, refused where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from building import Exported, same_weights
from in_process import call
from original_files import original_content, write_original
from parity import differences
from text.hostile import HOSTILE

from xlm_lightning.pretrained import load_model

Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("preset", ["nmt", "wiki"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_weights_and_ids_survive(
    exports: dict[str, Exported], tmp_path: Path, preset: str, prefix: str, zipped: bool
) -> None:
    made = exports[preset]
    path = write_original(made, tmp_path / "original", prefix=prefix, zipped=zipped)
    read = load_model(str(path))
    assert same_weights(read.model, made.trained.model)
    assert (read.languages, read.objective, read.stream_length) == (["de", "en"], "clm", 256)
    ours, theirs = made.trained.load_text_model(), read.load_text_model()
    assert theirs.lowercase_and_remove_accent == (preset == "wiki")
    assert theirs.vocabulary.counts == ours.vocabulary.counts
    for language, pipeline in theirs.pipelines().items():
        wanted = ours.pipelines()[language].encode_lines(HOSTILE).ids
        assert pipeline.encode_lines(HOSTILE).ids.tolist() == wanted.tolist()


@pytest.mark.parametrize("preset", ["nmt", "wiki"])
def test_its_export_is_a_good_folder(
    exports: dict[str, Exported], tmp_path: Path, preset: str
) -> None:
    path = write_original(exports[preset], tmp_path / "original", prefix="module.")
    folder = tmp_path / "exported"
    call("xlm-export", f"checkpoint={path}", f"out={folder}").expect()
    assert list(differences(folder, exports[preset].trained, seed=7)) == []
    read = load_model(str(folder))
    assert same_weights(read.model, exports[preset].trained.model)
    assert read.facts["origin"] == "the original XLM program"
    assert read.facts["text_mode"] == "moses"


def test_a_masked_model_is_known_by_its_steps(exported: Exported, tmp_path: Path) -> None:
    content = original_content(exported)
    content["params"] |= {"clm_steps": [], "mlm_steps": [("de", None), ("en", None)]}
    torch.save(content, tmp_path / "model.pth")
    assert load_model(str(tmp_path / "model.pth")).objective == "mlm"


def without(*keys: str) -> Change:
    """Drop what a path of keys leads to."""

    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


MISTAKES: dict[str, tuple[Change, str]] = {
    "another program's": (without("dico_id2word"), "not a checkpoint of the original XLM"),
    "no params": (without("params"), "no params"),
    "no shape": (without("params", "n_heads"), "n_heads"),
    "no languages": (without("params", "lang2id"), "lang2id"),
    "adaptive softmax": (lambda content: content["params"].update(asm=True), "asm"),
    "translation": (lambda content: content.update(encoder={}, decoder={}), "encoder"),
    "no positions": (without("model", "position_embeddings.weight"), "position_embeddings"),
    "a tensor missing": (without("model", "ffns.1.lin1.bias"), "ffns.1.lin1.bias is missing"),
    "a tensor too many": (lambda content: content["params"].update(n_layers=1), "attentions.1"),
    "a word missing": (without("dico_id2word", 20), "has 707 words"),
    "specials elsewhere": (lambda content: content["dico_id2word"].update({0: "a"}), "<s>"),
    "a head of its own": (
        lambda content: content["model"].update({"pred_layer.proj.weight": torch.ones(708, 32)}),
        "pred_layer.proj.weight differs",
    ),
}


@pytest.mark.parametrize("way", MISTAKES)
def test_what_cannot_be_read_is_named(exported: Exported, tmp_path: Path, way: str) -> None:
    change, word = MISTAKES[way]
    path = write_original(exported, tmp_path / "original")
    content = original_content(exported)
    change(content)
    torch.save(content, path)
    said = call("xlm-evaluate", f"checkpoint={path}", "text=Hello", "language=en").expect(2).stderr
    assert str(path) in said
    assert word in said
    assert len(said.strip().splitlines()) <= 2
