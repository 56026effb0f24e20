"""What is known of a model's training: taken from its run folder, carried along by its exports.

`training.json` in an exported folder holds it, so that the folder's card can be written again where
the run is not. Paths, words of the command line and names of machines stay in the run folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xlm_lightning.errors import UserError
from xlm_lightning.run_folder import RunFolder, read_json
from xlm_lightning.trained import TrainedModel
from xlm_lightning.trained_translator import TrainedTranslator

Trained = TrainedModel | TrainedTranslator
TRAINING = "training.json"
SUITES = ("bias", "crosslingual")  # of xlm-evaluate: RUN/evaluations/NAME.json
_SCORES = ("valid", "test", "limit", "grammatical")
_SUMMARY = (
    *("status", "experiment", "steps", "tokens_seen", "tokens_per_second", "skipped_steps"),
    *("precision", "accelerator", "world_size", "seed", "energy"),
    *_SCORES,
)
_PROVENANCE = ("git_revision", "python", "packages", "hardware", "data", "start")
_CONFIG = {
    "data": (
        *("batch_size", "stream_length", "alpha"),
        *("max_pairs", "sentence_tokens", "sentence_max_length", "pair_tokens"),
    ),
    "model": ("dropout", "attention_dropout", "init", "position_init"),
    "objective": None,
    "optimizer": None,
    "schedule": None,
    "trainer": ("max_steps", "gradient_clip_val", "strategy"),
    "energy": None,
}  # None: all keys
NETWORKS = ("encoder", "decoder")  # of a translator
_SOURCES = ("init_from", *(f"{name}_from" for name in NETWORKS))  # what weights began from


def read_record(trained: Trained) -> dict[str, Any]:
    """Return the record of `trained`; empty for a model that others have trained.

    Its parts are `summary`, `provenance` and `config` (of the files of these names), `evaluations`,
    and in an exported folder `card`, what its author has stated. Raises `UserError` that names a
    damaged file.
    """
    if trained.path.suffix == ".ckpt":
        return _of_run(RunFolder(trained.path.parent.parent), int(trained.facts["steps"]))
    path = trained.path.with_name(TRAINING)
    record = read_json(path)
    if not all(isinstance(part, dict) for part in record.values()):
        raise UserError(f"{path} is not as xlm-export writes it; remove it")
    return record


def source_of(trained: Trained, record: Mapping[str, Any]) -> str:
    """Who trained a model, and what is known of it: `run` (ours, with its record), `ours` (without
    one), `original` (the original XLM program) or `foreign`."""
    if "provenance" in record or "summary" in record:
        return "run"
    if "steps" in trained.facts:
        return "ours"
    return "original" if "origin" in trained.facts else "foreign"


def objectives_of(trained: TrainedTranslator) -> list[str]:
    """What a translator was trained for."""
    objectives: list[str] = trained.facts["objectives"].split(", ")
    return objectives


def begun_from(record: Mapping[str, Any]) -> dict[str, str | None]:
    """Network of a translator -> the model that its weights began from, None for random ones."""
    model = record.get("config", {}).get("model", {})
    return {name: model.get(f"{name}_from") or model.get("init_from") for name in NETWORKS}


def _of_run(run: RunFolder, step: int) -> dict[str, Any]:
    """`step`: of the weights, which need not be those that the run has scored."""
    summary = read_json(run.path / "summary.json")
    if summary.get("steps", -1) < step:
        summary = {}  # of an earlier start; the last one was killed
    scored = not summary or _scored_step(summary) == step
    kept = _only(summary, [name for name in _SUMMARY if scored or name not in _SCORES])
    if not scored:
        kept["scored_step"] = _scored_step(summary)
    evaluations = {name: read_json(run.path / "evaluations" / f"{name}.json") for name in SUITES}
    parts = {
        "summary": kept,
        "provenance": _provenance(read_json(run.path / "provenance.json")),
        "config": _config(run.config() or {}),
        "evaluations": {name: found for name, found in evaluations.items() if found and scored},
    }
    return {name: part for name, part in parts.items() if part}


def _scored_step(summary: Mapping[str, Any]) -> int:
    """The best checkpoint's, or the last one's where no best one was kept."""
    found = re.match(r"best-(\d+)", Path(summary.get("best_checkpoint") or "").name)
    return int(found[1]) if found else int(summary["steps"])


def _provenance(whole: Mapping[str, Any]) -> dict[str, Any]:
    kept = _only(whole, _PROVENANCE)
    for part, left_out in (("data", "dir"), ("hardware", "executable")):
        if part in kept:
            kept[part] = {key: value for key, value in kept[part].items() if key != left_out}
    return kept


def _config(whole: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        group: _only(whole[group], keys or whole[group])
        for group, keys in _CONFIG.items()
        if group in whole
    }
    for key in _SOURCES:
        source = whole.get("model", {}).get(key)
        if source is not None:
            is_path = Path(source).is_absolute() or Path(source).exists()
            kept["model"][key] = Path(source).name if is_path else source
    return kept


def _only(whole: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: whole[key] for key in keys if key in whole}
