"""Parallel coordinates: a line a run, through what it was given to what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlm_lightning.reporting.plots import COLOURS, HEIGHT, Spec
from xlm_lightning.wording import short

FEW = 3  # different numbers are written one by one, more as a scale


def parallel_coordinates(
    columns: Sequence[tuple[str, Sequence[Any]]], names: Sequence[str], best: str | None
) -> Spec:
    """One line a run through all `columns` (what they hold, a value for each of `names`).

    The last column is the figure that is compared; the lower, the better.
    """
    lines, labels = [], []
    for title, values in columns:
        places, marks = _places(values)
        labels += [{"column": title, "place": place, "label": label} for place, label in marks]
        lines += [
            {"run": name, "column": title, "place": place, "label": short(value)}
            for name, value, place in zip(names, values, places, strict=True)
        ]
    x = {
        "field": "column",
        "type": "nominal",
        "sort": [title for title, _ in columns],
        "title": None,
        "axis": {
            "labelAngle": 0,
            "orient": "top",
            "domain": False,
            "ticks": False,
            "grid": True,
            "labelPadding": 10,
            "labelFontSize": 12,
        },
        "scale": {"type": "point", "padding": 0.3},
    }
    y = {"field": "place", "type": "quantitative", "axis": None, "scale": {"domain": [-0.04, 1.08]}}
    is_best = f"datum.run == {best!r}" if best is not None else "false"
    return {
        "height": HEIGHT + 60,
        "width": "container",
        "layer": [
            {
                "data": {"values": lines},
                "params": [
                    {
                        "name": "near",
                        "select": {
                            "type": "point",
                            "fields": ["run"],
                            "on": "pointerover",
                            "clear": "pointerout",
                        },
                    }
                ],
                "mark": {"type": "line", "size": 2.5, "interpolate": "monotone"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "detail": {"field": "run"},
                    "color": {
                        "condition": {"test": is_best, "value": COLOURS[1]},
                        "value": COLOURS[0],
                    },
                    "opacity": {
                        "condition": [
                            {"param": "near", "empty": False, "value": 1},
                            {"test": is_best, "value": 1},
                        ],
                        "value": 0.35,
                    },
                    "tooltip": [{"field": "run", "title": "run"}],
                },
            },
            {
                "data": {"values": labels},
                "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11},
                "encoding": {"x": x, "y": y, "text": {"field": "label"}},
            },
        ],
    }


def _places(values: Sequence[Any]) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Where on a vertical axis from 0 to 1 the values lie, and what is written on it."""
    known = [value for value in values if value is not None]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
    if numbers and len(set(known)) > FEW:
        low, high = min(known), max(known)
        marks = [(0.0, short(low)), (0.5, short((low + high) / 2)), (1.0, short(high))]
        return [None if v is None else (v - low) / (high - low) for v in values], marks
    kinds = sorted(set(known)) if numbers else sorted(set(known), key=str)
    place = {kind: i / max(len(kinds) - 1, 1) for i, kind in enumerate(kinds)}
    return [place.get(v) for v in values], [(place[v], short(v)) for v in kinds]
