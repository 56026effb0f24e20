"""A run folder as it is read for a report: whatever is there, in the state in which it is."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xlm_lightning.errors import UserError
from xlm_lightning.recall import flat
from xlm_lightning.run_folder import RunFolder, read_json

_HEADING = re.compile(r"^## step ([\d,]+)$", re.MULTILINE)
_PARAGRAPH = re.compile(r"^\*\*([^*\n]+)\*\* ?(.*?)(?=^\*\*|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Point:
    """One logged figure, and how far the run had come."""

    step: int
    tokens: float
    seconds: float  # of training; validations and checkpoints left out
    value: float


@dataclass(frozen=True)
class RunRecord:
    """What a run has left. A run that was killed, or still goes on, has no summary."""

    name: str  # shown to people: the last parts of the folder
    folder: Path
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    word_map: Mapping[str, Any]
    evaluations: list[Mapping[str, Any]]  # of xlm-evaluate suite=...
    rows: list[dict[str, float]]  # of metrics.csv, without its empty fields
    samples: list[tuple[int, list[tuple[str, str]]]]  # step, and what was written in which language

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Raises `UserError` for a folder that holds no run, and for damaged files in it."""
        run = RunFolder(folder)
        config = run.config()
        if config is None:
            raise UserError(f"runs={folder}: no config.yaml, so no run folder")
        texts = run.samples.read_text("utf-8") if run.samples.is_file() else ""
        evaluations = sorted(folder.glob("evaluations/*.json"))
        return cls(
            name="/".join(folder.absolute().parts[-2:]),
            folder=folder,
            summary=read_json(run.summary),
            config=config,
            provenance=read_json(folder / "provenance.json"),
            word_map=read_json(folder / "words.json"),
            evaluations=[read_json(file) for file in evaluations],
            rows=list(_rows(run.metrics)) if run.metrics.is_file() else [],
            samples=list(_samples(texts)),
        )

    @property
    def status(self) -> str:
        """As in the summary; `unfinished` without one."""
        return str(self.summary.get("status", "unfinished"))

    @property
    def languages(self) -> list[str]:
        """Languages, or pairs of them, of the figures of the first objective."""
        names = [
            name.split("/")[1]
            for row in self.rows
            for name in row
            if re.fullmatch(r"valid/[\w-]+/perplexity", name) and "/mean/" not in name
        ]
        return list(dict.fromkeys(names)) or [
            name
            for name, figures in self.summary.get("valid", {}).items()
            if name != "mean" and "perplexity" in figures
        ]

    @cached_property
    def flat_config(self) -> dict[str, Any]:
        """Every key, dotted."""
        return dict(flat(self.config))

    def limit(self, language: str) -> float | None:
        """The lowest perplexity that any model can have, where the corpus knows it."""
        found = self.summary.get("limit", {}).get(language, {}).get("perplexity")
        return None if found is None else float(found)

    def curve(self, name: str) -> list[Point]:
        """All values of one column of metrics.csv that are finite."""
        rows = [row for row in self.rows if math.isfinite(row.get(name, math.nan))]
        steps = [int(row["step"]) for row in rows]
        known, tokens, seconds = self._clock
        return [
            Point(step, float(seen), float(passed), row[name])
            for step, seen, passed, row in zip(
                steps,
                np.interp(steps, known, tokens),
                np.interp(steps, known, seconds),
                rows,
                strict=True,
            )
        ]

    @cached_property
    def _clock(self) -> tuple[list[float], list[float], list[float]]:
        """Steps, and tokens and seconds of training up to each; the speed gives the time."""
        steps, tokens, seconds = [0.0], [0.0], [0.0]
        for row in self.rows:
            seen, speed = row.get("train/tokens_seen"), row.get("train/tokens_per_second", 0)
            if seen is not None and speed > 0:
                seconds.append(seconds[-1] + (seen - tokens[-1]) / speed)
                tokens.append(seen)
                steps.append(row["step"])
        return steps, tokens, seconds


def _rows(file: Path) -> Iterator[dict[str, float]]:
    """A run that is being written, or was killed, may have a torn last line: it is left out."""
    try:
        with file.open(encoding="utf-8", newline="") as text:
            for row in csv.DictReader(text):
                if None not in row.values() and None not in row:
                    yield {name: float(value) for name, value in row.items() if value}
    except (ValueError, csv.Error) as error:
        raise UserError(f"{file} is damaged ({error}); move it elsewhere") from error


def _samples(text: str) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    _, *parts = _HEADING.split(text)
    for step, paragraphs in zip(parts[::2], parts[1::2], strict=True):
        texts = [(found[1], found[2].strip()) for found in _PARAGRAPH.finditer(paragraphs)]
        yield int(step.replace(",", "")), texts


def number_of(text: str) -> int | float | str:
    """A table's field as the number it shows, where it shows one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
