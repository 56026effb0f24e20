"""The model card: every section, metadata that the hub reads, and nothing that is not known."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from building import Exported, copy_of, edit_json, short_run
from huggingface_hub import ModelCard
from in_process import call
from original_files import write_original

_SECTIONS = """
# Model Details
## Model Description
# Uses
## Direct Use
## Downstream Use
## Out-of-Scope Use
# Bias, Risks, and Limitations
## Recommendations
# Training
## Training Data
## Training Procedure
### Preprocessing
### Speeds, Sizes, Times
# Evaluation
## Testing Data, Factors & Metrics
### Testing Data
### Factors
### Metrics
## Results
# Environmental Impact
# Technical Specifications
## Model Architecture and Objective
## Compute Infrastructure
### Hardware
### Software
# Citation
# Model Card Authors
# Model Card Contact
# How to Get Started with the Model
"""
SECTIONS = _SECTIONS.strip().splitlines()
BLANKS = re.compile(r"(?i:more information needed)|\bNone\b|\bnan\b|\{\{|\}\}|\{%|\[\]")
BIAS = {
    "suite": "bias",
    "tests": [
        {
            "name": "occupations",
            "title": "Occupations and gender",
            "method": "Templates filled with he and she.",
            "metric": "gap",
            "unit": "nats",
            "chance": 0.0,
            "rows": [
                {"series": "en", "group": "nurse", "x": None, "value": 0.51, "low": 0.4,
                 "high": 0.625, "count": 12},
                {"series": "de", "group": "a|b", "x": None, "value": -2.0, "low": None,
                 "high": None, "count": 12},
            ],
        }
    ],
    "limits": ["Short lists of our own."],
}  # fmt: skip


def export(source: Path, out: Path, *words: str) -> str:
    call("xlm-export", f"checkpoint={source}", f"out={out}", *words).expect()
    return card_of(out)


def card_of(folder: Path) -> str:
    """The card in `folder`, which must have every section and no blank."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if re.match("#+ ", line)][1:] == SECTIONS
    assert BLANKS.findall(text) == []
    assert "\n\n\n" not in text
    return text


def results(folder: Path) -> dict[tuple[str, str, str], float]:
    """Language, split and metric -> value, as huggingface_hub reads it."""
    found = ModelCard.load(folder / "README.md").data.eval_results or []
    return {(one.dataset_config, one.dataset_split, one.metric_type): one.metric_value
            for one in found}  # fmt: skip


@pytest.fixture
def run_copy(run_folder: Path, tmp_path: Path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(run_folder, tmp_path / "run", symlinks=True))


# --- models of ours -------------------------------------------------------------------------------
def test_the_card_of_a_run_tells_what_the_run_has_recorded(
    run_folder: Path, tmp_path: Path
) -> None:
    text = export(run_folder, tmp_path / "out")
    summary = json.loads((run_folder / "summary.json").read_text())
    told = results(tmp_path / "out")
    for split, name in (("valid", "validation"), ("test", "test")):
        for language in ("de", "en"):
            for metric in ("perplexity", "accuracy", "bits_per_byte"):
                assert told[language, name, metric] == summary[split][language][metric]
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.language, data.pipeline_tag) == (["de", "en"], "text-generation")
    assert (data.library_name, data.model_name) == ("transformers", "xlm-clm-deen-32")
    assert data.license is None
    recorded = json.loads((run_folder / "provenance.json").read_text())
    lines = recorded["data"]["splits"]["train"]["de"]
    assert lines["lines"] == 200
    assert f"| train | de | 200 | {lines['tokens']:,} |" in text
    assert f"| Tokens seen | {summary['tokens_seen']:,} |" in text
    assert recorded["packages"]["torch"] in text
    assert recorded["hardware"]["cpu"] in text
    assert "not measured, since the run was made without `carbon=true`" in text
    assert "not stated by its author; set `card.license=...`" in text


def test_no_path_of_the_machine_leaves_the_run_folder(run_folder: Path, tmp_path: Path) -> None:
    export(run_folder, tmp_path / "out")
    for name in ("README.md", "training.json"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert str(run_folder.parent.parent) not in text


@pytest.mark.parametrize(
    ("source", "told"), [("owner/name", "owner/name"), ("{folder}", None), ("runs/of/mine", None)]
)
def test_only_a_model_of_the_hub_is_linked_to(
    run_copy: Path, tmp_path: Path, source: str, told: str | None
) -> None:
    config = run_copy / "config.yaml"
    given = f"init_from: {source.format(folder=tmp_path)}"
    text, found = re.subn(r"\binit_from: .*", given, config.read_text())
    assert found == 1
    config.write_text(text)
    export(run_copy, tmp_path / "out")
    assert ModelCard.load(tmp_path / "out" / "README.md").data.base_model == told


def test_energy_and_suites_stand_in_the_card(run_copy: Path, tmp_path: Path) -> None:
    amounts = {"kwh": 0.5, "cpu_kwh": 0.1, "ram_kwh": 0.1, "gpu_kwh": 0.3, "kg_co2eq": 0.19}
    rates = {"kwh_per_million_tokens": 2.0, "seconds": 5400.0, "country": "DEU"}
    words = {"method": "By counters.", "uncertainty": "Not known.", "codecarbon": "3.3.2"}
    summary = json.loads((run_copy / "summary.json").read_text())
    energy = {**amounts, **rates, **words, "tokens": summary["tokens_seen"]}
    edit_json(run_copy / "summary.json", lambda content: content.update(energy=energy))
    (run_copy / "evaluations").mkdir()
    (run_copy / "evaluations" / "bias.json").write_text(json.dumps(BIAS))
    (run_copy / "evaluations" / "crosslingual.json").write_text(
        json.dumps(BIAS | {"suite": "crosslingual", "limits": []})
    )
    text = export(run_copy, tmp_path / "out")
    assert "0.19 kg CO2eq: 0.5 kWh (CPU 0.1, RAM 0.1, GPU 0.3), 2 kWh per million tokens" in text
    assert "**Hours used:** 1.5 (1 h 30 min)" in text
    emissions = ModelCard.load(tmp_path / "out" / "README.md").data.co2_eq_emissions
    assert emissions["emissions"] == pytest.approx(190)
    assert emissions["geographical_location"] == "DEU"
    assert text.count("| en | nurse | 0.51 | [0.4, 0.625] | 12 |") == 2
    assert text.count("| de | a\\|b | -2 |  | 12 |") == 2
    assert text.count("- Short lists of our own.") == 1


def test_what_the_author_states_stays_at_the_next_export(run_folder: Path, tmp_path: Path) -> None:
    words = {
        "name": "my-model",
        "license": "Apache-2.0",
        "developed_by": "A. Person, the [Group]",
        "authors": "A. Person",
        "contact": "a.person@example.org",
        "cloud_provider": "our own cluster",
        "compute_region": "Bavaria",
        "limitations": "It is small: {{ x }} and {% y %} stay as they are.",
    }
    stated = [f"card.{key}={value}" for key, value in words.items() if key != "limitations"]
    first = export(run_folder, tmp_path / "first", *stated, "card.limitations=It is small.")
    for value in [*list(words.values())[:-1], "It is small."]:
        assert value in first
    data = ModelCard.load(tmp_path / "first" / "README.md").data
    assert (data.license, data.model_name) == ("apache-2.0", "my-model")
    assert export(tmp_path / "first", tmp_path / "second") == first
    third = export(tmp_path / "second", tmp_path / "third", "card.license=for internal use")
    assert "A. Person, the [Group]" in third
    data = ModelCard.load(tmp_path / "third" / "README.md").data
    assert (data.license, data.get("license_name")) == ("other", "for-internal-use")


def test_scores_of_other_weights_are_left_out(run_copy: Path, tmp_path: Path) -> None:
    """The last checkpoint is not the best one: what the run has scored is not what it can do."""

    def best_was_earlier(summary: dict[str, Any]) -> None:
        summary["best_checkpoint"] = "checkpoints/best-00000004.ckpt"

    edit_json(run_copy / "summary.json", best_was_earlier)
    text = export(run_copy / "checkpoints" / "last.ckpt", tmp_path / "out")
    assert "The run has scored other weights than these (step 4)" in text
    assert results(tmp_path / "out") == {}
    assert "scored" not in (tmp_path / "out" / "training.json").read_text().replace(
        "scored_step", ""
    )


@pytest.mark.parametrize("lost", ["summary.json", "provenance.json", "config.yaml"])
def test_a_run_that_was_killed_or_robbed(run_copy: Path, tmp_path: Path, lost: str) -> None:
    (run_copy / lost).unlink()
    text = export(run_copy, tmp_path / "out")
    if lost == "summary.json":
        assert "The run ended before its weights were scored" in text
    if lost == "provenance.json":
        assert "The run did not record what its data consist of" in text


@pytest.mark.slow
def test_the_card_of_a_masked_model(prepared_text: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = short_run(prepared_text, run)
    call("xlm-train", *words, "objective=clm_mlm").expect()
    text = export(run, tmp_path / "out", "objective=mlm")
    summary = json.loads((run / "summary.json").read_text())
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.pipeline_tag == "fill-mask"
    rows = {(one.task_type, one.dataset_config, one.metric_type): one.metric_value
            for one in data.eval_results if one.dataset_split == "test"}  # fmt: skip
    assert rows["text-generation", "de", "perplexity"] == summary["test"]["de"]["perplexity"]
    assert rows["fill-mask", "de", "perplexity"] == summary["test"]["mlm"]["de"]["perplexity"]
    assert "is a masked language model of German and English" in text


# --- models of others -----------------------------------------------------------------------------
def test_the_card_of_a_foreign_folder(exported: Exported, tmp_path: Path) -> None:
    folder = copy_of(exported.folder, tmp_path / "foreign")
    edit_json(folder / "config.json", lambda config: config.pop("xlm_lightning"))
    (folder / "README.md").write_text("# Somebody's card")
    words = ("card.hours_used=12.5", "card.kg_co2eq=3", "card.training_data=Half of the web.")
    text = export(folder, tmp_path / "out", *words)
    for told in (
        "It was not trained by xlm-lightning",
        "How the training text was prepared is not told",
        "How long and with which settings it was trained is not told",
        "**Hours used:** 12.5 (12 h 30 min)",
        "3 kg CO2eq, as its author states",
        "Half of the web.",
        "not stated by its author; set `card.hardware=...`",
    ):
        assert told in text
    assert results(tmp_path / "out") == {}
    assert export(tmp_path / "out", tmp_path / "again") == text


def test_the_card_of_an_original_checkpoint(exported: Exported, tmp_path: Path) -> None:
    file = write_original(exported, tmp_path / "original")
    text = export(file, tmp_path / "out")
    assert "It was trained with the original XLM program and converted by xlm-lightning" in text
    assert export(tmp_path / "out", tmp_path / "again") == text
    outcome = call("xlm-export", f"checkpoint={file}", "card_only=true").expect(2)
    assert "Say out=DIR with card_only=true" in outcome.stderr


def test_a_record_that_is_not_ours_is_refused(run_folder: Path, tmp_path: Path) -> None:
    export(run_folder, tmp_path / "out")
    record = tmp_path / "out" / "training.json"
    spoilt: list[Mapping[str, Any] | list[int]] = [
        {"summary": {"valid": {"de": {"perplexity": "low"}}}},
        {"provenance": {"data": {"splits": 3}}},
        {"card": 3},
        {"evaluations": {"bias": {}}},
        [1],
    ]
    for content in spoilt:
        record.write_text(json.dumps(content))
        words = (f"checkpoint={tmp_path / 'out'}", f"out={tmp_path / 'no'}")
        said = call("xlm-export", *words).expect(2).stderr
        assert str(record) in said
        assert len(said.splitlines()) == 1


# --- the card alone -------------------------------------------------------------------------------
def test_a_card_alone_goes_into_the_run_folder(run_copy: Path, tmp_path: Path) -> None:
    before = {file.name for file in run_copy.iterdir()}
    for source in (run_copy, run_copy / "checkpoints" / "last.ckpt"):
        words = (f"checkpoint={source}", "card_only=true", "card.license=mit")
        result = call("xlm-export", *words).expect().result
        assert result == {"out": str(run_copy), "files": ["README.md"]}
        assert {file.name for file in run_copy.iterdir()} == before | {"README.md"}
    assert "license: mit" in card_of(run_copy)


def test_a_card_alone_goes_where_it_is_told(run_folder: Path, tmp_path: Path) -> None:
    words = (f"checkpoint={run_folder}", "card_only=true", f"out={tmp_path / 'new' / 'place'}")
    call("xlm-export", *words).expect()
    assert [file.name for file in (tmp_path / "new" / "place").iterdir()] == ["README.md"]
    whole = export(run_folder, tmp_path / "whole")
    assert card_of(tmp_path / "new" / "place") == whole
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("# Mine")
    said = call("xlm-export", *words[:2], f"out={mine}").expect(2).stderr
    assert "was not written by xlm-export" in said
    assert (mine / "README.md").read_text() == "# Mine"
