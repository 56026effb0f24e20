"""Does a language help another? What the runs of `sweep=transfer` have found, with its plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from xlm_lightning.reporting import plots
from xlm_lightning.reporting.page import Plot
from xlm_lightning.reporting.record import RunRecord
from xlm_lightning.wording import listed

# Student's t of a 95 % interval of the mean, by the number of values less one
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.96


def transfer_plot(runs: Sequence[RunRecord]) -> Plot | None:
    """Perplexity of a language by how much of its text there was; None where that is all one.

    The language is the one of which the runs had most different shares. Each line is for one choice
    of the others, each point a mean over the runs that differ in the seed at most.
    """
    language, rows = transfer_rows(runs)
    if len({row["x"] for row in rows}) < 2:
        return None
    fewest = min(row["count"] for row in rows)
    said = (
        f"Perplexity of the valid text in {language}, mean over seeds with a 95 % interval "
        f"(Student's t, {fewest} seeds or more a point); lower is better."
        if fewest > 1
        else f"Perplexity of the valid text in {language}; more seeds would tell how sure it is."
    )
    test = {"rows": rows, "metric": "perplexity", "x_name": f"share of the {language} text read"}
    spec = plots.evaluation(test, language)
    for layer in spec["layer"]:
        layer["encoding"]["x"] |= {"scale": {"type": "log"}, "axis": {"format": "~%"}}
        layer["encoding"]["y"]["scale"] = {"type": "log", "nice": False, "padding": 12}
    spec["height"] = plots.HEIGHT
    return Plot(f"How well {language} is known, by how much of it was read", said, spec)


def transfer_rows(runs: Sequence[RunRecord]) -> tuple[str, list[dict[str, Any]]]:
    """The language, and its figures as rows of a test of `xlm-evaluate` have them."""
    shares = [(_shares(run), run) for run in runs if run.status == "finished"]
    languages = sorted({name for given, _ in shares for name in given})
    if not languages or len({_rest(run) for _, run in shares}) > 1:
        return "", []  # a mean over anything but seeds would say nothing
    language = max(languages, key=lambda name: len({given[name] for given, _ in shares}))
    found: dict[tuple[float, str], list[float]] = {}
    for given, run in shares:
        scored = run.summary.get("valid", {}).get(language, {}).get("perplexity")
        if scored is not None and math.isfinite(scored):
            others = {name: share for name, share in given.items() if name != language}
            found.setdefault((given[language], _beside(others)), []).append(scored)
    return language, [
        {
            "series": series,
            "group": language,
            "x": share,
            "value": statistics.fmean(values),
            **_interval(values),
            "count": len(values),
        }
        for (share, series), values in sorted(found.items())
    ]


def _rest(run: RunRecord) -> frozenset[tuple[str, str]]:
    """What runs must have alike, beside their seed and shares of text."""
    own = ("run.", "resume", "seed", "data.shares", "logger.")
    return frozenset((k, str(v)) for k, v in run.flat_config.items() if not k.startswith(own))


def _shares(run: RunRecord) -> dict[str, float]:
    """Of each language's text, what a run had; all of it where nothing is said."""
    given = run.config.get("data", {}).get("shares", {})
    known = run.provenance.get("data", {}).get("splits", {}).get("train", given)
    return {name: float(given.get(name, 1)) for name in known}


def _beside(others: Mapping[str, float]) -> str:
    told = [name if share == 1 else f"{share:.0%} of {name}" for name, share in others.items()
            if share]  # fmt: skip
    return f"with {listed(told)}" if told else "alone"


def _interval(values: Sequence[float]) -> dict[str, float]:
    """95 % of the mean; the value itself where there is one only."""
    mean, freedom = statistics.fmean(values), len(values) - 1
    if freedom == 0:
        return {"low": mean, "high": mean}
    t = _T[freedom - 1] if freedom <= len(_T) else _NORMAL
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return {"low": max(mean - half, 1.0), "high": mean + half}  # no perplexity is below 1
