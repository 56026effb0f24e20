"""Ours -> Hugging Face -> ours: the same weights, ids and perplexities, and the origin is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from building import Exported, copy_of, edit_json, export, same_weights
from in_process import call
from parity import differences

from xlm_lightning.pretrained import load_model
from xlm_lightning.trained import TrainedModel


@pytest.fixture(scope="module")
def folder(run_folder: Path) -> Path:
    """What xlm-export makes of the run."""
    out = run_folder.parent / "exported"
    result = call("xlm-export", f"checkpoint={run_folder}", f"out={out}").expect().result
    assert result == {"out": str(out), "files": sorted(file.name for file in out.iterdir())}
    return out


def provenance(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    ours: dict[str, Any] = content["xlm_lightning"]
    return ours


def test_a_run_survives_the_way_there_and_back(run_folder: Path, folder: Path) -> None:
    ours, back = load_model(str(run_folder)), load_model(str(folder))
    assert same_weights(ours.model, back.model)
    assert ours.model.arguments == back.model.arguments
    assert (ours.languages, ours.stream_length) == (back.languages, back.stream_length)
    assert ours.objective == back.objective == "clm"
    assert list(differences(folder, ours, seed=9)) == []


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("definition", ["ours", "xlm"])
def test_the_perplexity_is_the_same_to_the_last_digit(
    run_folder: Path, folder: Path, prepared_text: Path, split: str, definition: str
) -> None:
    words = (f"data.dir={prepared_text}", f"split={split}", f"definition={definition}")
    scored = [
        call("xlm-evaluate", f"checkpoint={source}", *words).expect().result
        for source in (run_folder, folder)
    ]
    for result in scored:
        del result["checkpoint"]
    assert scored[0] == scored[1]


def test_a_second_export_is_the_first(folder: Path, tmp_path: Path) -> None:
    """Byte for byte, counts of the words included."""
    again = tmp_path / "again"
    call("xlm-export", f"checkpoint={folder}", f"out={again}").expect()
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("preset", ["nmt", "wiki"])
def test_ids_are_those_of_transformers_on_the_way_back(
    exports: dict[str, Exported], preset: str
) -> None:
    trained = exports[preset].trained
    back = load_model(str(exports[preset].folder)).load_text_model()
    assert back == replace(trained.load_text_model(), mode="sacremoses", vocabulary=back.vocabulary)
    assert back.vocabulary.words == trained.load_text_model().vocabulary.words
    assert back.vocabulary.counts == trained.load_text_model().vocabulary.counts


@pytest.mark.parametrize("mode", ["moses", "sacremoses"])
@pytest.mark.parametrize("preset", ["nmt", "wiki"])
def test_the_origin_is_kept(
    exports: dict[str, Exported], tmp_path: Path, preset: str, mode: str
) -> None:
    """Which rules the training text went through stays known, though ids follow transformers'."""
    text_model = replace(exports[preset].trained.load_text_model(), mode=mode)
    trained = replace(exports[preset].trained, load_text_model=lambda: text_model)
    told = {"text_mode": mode, "text_casing": {"nmt": "cased", "wiki": "uncased"}[preset]}
    first = export(trained, tmp_path / "first")
    assert told.items() <= provenance(first.folder).items()
    back = load_model(str(first.folder))
    assert told.items() <= back.facts.items()
    assert back.facts["steps"] == 0
    second = export(back, tmp_path / "second")
    assert provenance(second.folder) == provenance(first.folder)
    assert f"text mode `{mode}`" in (second.folder / "README.md").read_text(encoding="utf-8")


def test_the_origin_of_a_foreign_folder_is_not_made_up(exported: Exported, tmp_path: Path) -> None:
    folder = copy_of(exported.folder, tmp_path / "foreign")
    edit_json(folder / "config.json", lambda config: config.pop("xlm_lightning"))
    made = export(load_model(str(folder)), tmp_path / "made")
    told = provenance(made.folder)
    assert (told["text_mode"], told["text_casing"]) == ("unknown", "unknown")


def test_a_masked_model_comes_back_masked(exported: Exported, tmp_path: Path) -> None:
    masked: TrainedModel = replace(exported.trained, objective="mlm")
    made = export(masked, tmp_path / "any-name")
    assert load_model(str(made.folder)).objective == "mlm"
    assert load_model(str(made.folder), "clm").objective == "clm"


def test_an_export_is_whole_or_absent(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("keep")
    said = call("xlm-export", f"checkpoint={exported.folder}", f"out={out}").expect(2).stderr
    assert f"out={out} is there already" in said
    assert [file.name for file in out.iterdir()] == ["mine"]
    broken = copy_of(exported.folder, tmp_path / "broken")
    (broken / "merges.txt").unlink()
    call("xlm-export", f"checkpoint={broken}", f"out={tmp_path / 'new'}").expect(2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken", "out"]
