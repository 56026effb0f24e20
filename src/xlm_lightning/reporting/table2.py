"""Table 2 of the paper: how well one translates, by what encoder and decoder have started from."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlm_lightning.atomic import write_text
from xlm_lightning.reporting.record import RunRecord
from xlm_lightning.reporting.seeds import interval, rest

NAME = "table2"  # .csv and .md in a sweep's folder
NONE = "none"  # random weights
_CHOICES = ("model.encoder_from", "model.decoder_from")
# BLEU of Conneau & Lample 2019, Table 2. Only the last row could be compared with a source at hand
# (Brown et al. 2020, Table 3.4, repeats it).
_PAPER_DIRECTIONS = ("en-fr", "fr-en", "en-de", "de-en", "en-ro", "ro-en")
_PAPER = {
    ("none", "none"): (13.0, 15.8, 6.7, 15.3, 18.9, 18.3),
    ("none", "clm"): (25.3, 26.4, 19.2, 26.0, 25.7, 24.6),
    ("none", "mlm"): (29.2, 29.1, 21.6, 28.6, 28.2, 27.3),
    ("clm", "none"): (28.7, 28.2, 24.4, 30.3, 29.2, 28.0),
    ("clm", "clm"): (30.4, 30.0, 22.7, 30.5, 29.0, 27.8),
    ("clm", "mlm"): (32.3, 31.6, 24.3, 32.5, 31.6, 29.8),
    ("mlm", "none"): (31.6, 32.1, 27.0, 33.2, 31.8, 30.5),
    ("mlm", "clm"): (33.4, 32.3, 24.9, 32.9, 31.7, 30.4),
    ("mlm", "mlm"): (33.4, 33.3, 26.4, 34.3, 33.3, 31.8),
}


@dataclass(frozen=True)
class Score:
    """BLEU of one direction, mean over seeds with a 95 % interval of Student's t."""

    mean: float
    low: float
    high: float
    paper: float | None  # of much larger models, on newstest 2014 and 2016


@dataclass(frozen=True)
class Cell:
    """What one encoder and one decoder have come to."""

    encoder: str
    decoder: str
    seeds: int
    scores: dict[str, Score]  # by direction


def table2(runs: Sequence[RunRecord]) -> list[Cell]:
    """The cells of the runs that have finished, none first; empty where runs differ in more.

    Scores are those of the test split, where it has been scored, or else of valid.
    """
    scored = [(beginning, run) for run in runs if (beginning := _beginning(run)) and _bleu(run)]
    if len({rest(run, *_CHOICES) for _, run in scored}) != 1:
        return []
    found: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for beginning, run in scored:
        found.setdefault(beginning, []).append(_bleu(run))
    if len(found) < 2:
        return []
    return [
        Cell(*beginning, len(rows), {name: _score(beginning, name, rows) for name in rows[0]})
        for beginning, rows in sorted(found.items(), key=lambda item: _order(item[0]))
    ]


def write_table2(folder: Path, runs: Sequence[RunRecord]) -> None:
    """Keep the table beside the sweep's own, as CSV and as Markdown."""
    cells = table2(runs)
    if cells:
        write_text(folder / f"{NAME}.csv", _csv(cells))
        write_text(folder / f"{NAME}.md", "\n".join(markdown(cells)) + "\n")


def markdown(cells: Sequence[Cell]) -> list[str]:
    """Lines of a table: mean, interval and the paper's figure, a direction a column."""
    directions = list(cells[0].scores)
    heads = ["encoder", "decoder", "seeds", *directions]
    rows = [
        [cell.encoder, cell.decoder, str(cell.seeds)]
        + [_told(cell.scores[name], cell.seeds) for name in directions]
        for cell in cells
    ]
    return [f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows]]


def _told(score: Score, seeds: int) -> str:
    between = f" ({score.low:.1f} to {score.high:.1f})" if seeds > 1 else ""
    paper = "" if score.paper is None else f"; paper {score.paper:.1f}"
    return f"{score.mean:.1f}{between}{paper}"


def _csv(cells: Sequence[Cell]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["encoder", "decoder", "seeds", "direction", "bleu", "low", "high", "paper"])
    for cell in cells:
        for name, score in cell.scores.items():
            figures = [f"{x:.2f}" for x in (score.mean, score.low, score.high)]
            paper = "" if score.paper is None else score.paper
            writer.writerow([cell.encoder, cell.decoder, cell.seeds, name, *figures, paper])
    return text.getvalue()


def _beginning(run: RunRecord) -> tuple[str, str] | None:
    """What encoder and decoder started from: `none`, or the objective of a trained model."""
    start: Mapping[str, Any] = run.provenance.get("start", {})
    if run.status != "finished" or not {"encoder", "decoder"} <= start.keys():
        return None
    return str(start["encoder"]), str(start["decoder"])


def _bleu(run: RunRecord) -> dict[str, float]:
    figures: Mapping[str, Any] = run.summary.get("test") or run.summary.get("valid", {})
    return {
        name: float(row["bleu"])
        for name, row in figures.items()
        if name != "mean" and isinstance(row, Mapping) and math.isfinite(row.get("bleu", math.nan))
    }


def _score(beginning: tuple[str, str], name: str, rows: Sequence[Mapping[str, float]]) -> Score:
    values = [row[name] for row in rows]
    known = dict(zip(_PAPER_DIRECTIONS, _PAPER.get(beginning, ()), strict=False))
    spread = interval(values, at_least=0.0)
    return Score(statistics.fmean(values), **spread, paper=known.get(name))


def _order(beginning: tuple[str, str]) -> tuple[Any, ...]:
    known = list(_PAPER)
    return (known.index(beginning) if beginning in known else len(known), beginning)
