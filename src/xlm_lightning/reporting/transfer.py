"""Does a language help another? What the runs of `sweep=transfer` have found, with its plot."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xlm_lightning.atomic import write_text
from xlm_lightning.reporting import plots
from xlm_lightning.reporting.page import Plot
from xlm_lightning.reporting.record import RunRecord
from xlm_lightning.reporting.seeds import interval, rest
from xlm_lightning.wording import listed

TRANSFER = "transfer.json"  # in a sweep's folder
RANDOM = "random weights"


def transfer_test(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """What the runs have found, in the form of a test of `xlm-evaluate`; None if nothing.

    The language is the one of which the runs had most different shares. Each series is for one
    choice of the others, and one for the weights before the first step; each row is a mean over the
    runs that differ in the seed at most.
    """
    language, rows = transfer_rows(runs)
    if len({row["x"] for row in rows}) < 2:
        return None
    return {
        "name": "transfer",
        "title": f"How well {language} is known, by how much of it was read",
        "method": f"perplexity of the valid text in {language}, of the best weights of a run; mean "
        "over seeds with a 95 % interval of Student's t",
        "metric": "perplexity",
        "unit": "perplexity",
        "chance": None,
        "rows": rows,
        "x_name": f"share of the {language} text read",
    }


def write_transfer(folder: Path, runs: Sequence[RunRecord]) -> None:
    """Keep it beside the sweep's table, as `evaluations/SUITE.json` of a run is kept."""
    test = transfer_test(runs)
    if test is None:
        return
    limits = [
        "The intervals are of seeds: other text or another order of it would differ by more.",
        "All runs were to take the same number of steps, so that little text is read many times.",
    ]
    fewest = min(row["count"] for row in test["rows"])
    if fewest == 1:
        limits.append("There are figures of a single run, which have no interval.")
    write_text(folder / TRANSFER, json.dumps({"tests": [test], "limits": limits}, indent=2) + "\n")


def transfer_plot(runs: Sequence[RunRecord]) -> Plot | None:
    """The same as a plot, both axes logarithmic."""
    test = transfer_test(runs)
    if test is None:
        return None
    language = test["rows"][0]["group"]
    fewest = min(row["count"] for row in test["rows"] if row["series"] != RANDOM)
    said = (
        f"Perplexity of the valid text in {language}, mean over seeds with a 95 % interval "
        f"(Student's t, {fewest} seeds or more a point); lower is better."
        if fewest > 1
        else f"Perplexity of the valid text in {language}; more seeds would tell how sure it is."
    )
    spec = plots.evaluation(test, language)
    for layer in spec["layer"]:
        layer["encoding"]["x"] |= {"scale": {"type": "log"}, "axis": {"format": "~%"}}
        layer["encoding"]["y"]["scale"] = {"type": "log", "nice": False, "padding": 12}
    spec["height"] = plots.HEIGHT
    return Plot(test["title"], said, spec)


def transfer_rows(runs: Sequence[RunRecord]) -> tuple[str, list[dict[str, Any]]]:
    """The language, and its figures as rows of a test of `xlm-evaluate` have them."""
    shares = [(_shares(run), run) for run in runs if run.status == "finished"]
    languages = sorted({name for given, _ in shares for name in given})
    if not languages or len({rest(run, "data.shares") for _, run in shares}) > 1:
        return "", []  # a mean over anything but seeds would say nothing
    language = max(languages, key=lambda name: len({given[name] for given, _ in shares}))
    found: dict[tuple[float, str], list[float]] = {}
    before: dict[tuple[float, str], set[float]] = {}  # the same weights are counted once
    for given, run in shares:
        scored = run.summary.get("valid", {}).get(language, {}).get("perplexity")
        if scored is not None and math.isfinite(scored):
            others = {name: share for name, share in given.items() if name != language}
            found.setdefault((given[language], _beside(others)), []).append(scored)
        if (untrained := _untrained(run, language)) is not None:
            before.setdefault((given[language], RANDOM), set()).add(untrained)
    figures = [*sorted(found.items()), *((key, sorted(v)) for key, v in sorted(before.items()))]
    return language, [
        {
            "series": series,
            "group": language,
            "x": share,
            "value": statistics.fmean(values),
            **interval(values, at_least=1.0),  # as any perplexity is
            "count": len(values),
        }
        for (share, series), values in figures
    ]


def _untrained(run: RunRecord, language: str) -> float | None:
    """The perplexity at step 0, where `trainer.num_sanity_val_steps=-1` has measured it."""
    name = f"valid/{language}/perplexity"
    first = [row[name] for row in run.rows if row["step"] == 0 and name in row]
    return first[0] if first and math.isfinite(first[0]) else None


def _shares(run: RunRecord) -> dict[str, float]:
    """Of each language's text, what a run had; all of it where nothing is said."""
    given = run.config.get("data", {}).get("shares", {})
    known = run.provenance.get("data", {}).get("splits", {}).get("train", given)
    return {name: float(given.get(name, 1)) for name in known}


def _beside(others: Mapping[str, float]) -> str:
    told = [name if share == 1 else f"{share:.0%} of {name}" for name, share in others.items()
            if share]  # fmt: skip
    return f"with {listed(told)}" if told else "alone"
