"""Plots as Vega-Lite specifications; colours are variables of the page's style, light or dark.

Plots over the course of a run share one horizontal axis, which the reader chooses: tokens, time or
steps. Each has the parameter `axis`, which the page's script sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xlm_lightning.reporting.record import Point
from xlm_lightning.wording import duration

Spec = dict[str, Any]
Series = Mapping[str, Sequence[Point]]

COLOURS = [f"var(--series-{index})" for index in range(8)]  # in style.css; then they begin anew
MAX_POINTS = 400  # of a curve; a screen shows no more
HEIGHT = 260

_X = {
    "field": "x",
    "type": "quantitative",
    "title": None,
    "scale": {"zero": True},
    "axis": {
        "labelExpr": "axis == 'seconds' ? (datum.value < 7200 ? format(datum.value / 60, ',') + "
        "' min' : format(datum.value / 3600, ',.3~r') + ' h') : format(datum.value, '~s')",
        "tickCount": 6,
    },
}

_WHEN_CHOSEN_IN_PAGE = {
    "condition": {"test": "!chosen_run || datum.series == chosen_run", "value": 1},
    "value": 0.08,
}


def curves(
    series: Series,
    what: str,
    *,
    logarithmic: bool = False,
    limits: Mapping[str, float] | None = None,
    form: str = ",.3f",
    legend: bool = True,
) -> Spec:
    """Lines over the course of a run; `limits`: a dashed line in the colour of its series.

    Without a `legend` the page has one for all its plots, and sets the parameter `chosen_run`.
    """
    points = [row for name, curve in series.items() for row in _rows(name, curve)]
    names = list(series)
    hover = {
        "name": "near",
        "select": {
            "type": "point",
            "on": "pointerover",
            "clear": "pointerout",
            "nearest": True,
            "encodings": ["x", "y"],
        },
    }
    tooltip = [
        *([{"field": "series", "title": " "}] if len(names) > 1 else []),
        {"field": "value", "title": what, "format": form},
        {"field": "step", "format": ",", "title": "step"},
        {"field": "tokens", "format": ",.0f", "title": "tokens"},
        {"field": "time", "title": "time"},
    ]
    scale = {"type": "log", "nice": False, "padding": 12} if logarithmic else {"zero": False}
    y = {"field": "value", "type": "quantitative", "title": what, "scale": scale}
    colour = _colour("series", names) | ({} if legend else {"legend": None})
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "point": len(points) < 40 * len(names), "clip": True},
            "encoding": {"opacity": _when_chosen(1, 0.12) if legend else _WHEN_CHOSEN_IN_PAGE},
            "params": [_legend_choice("series")] if legend else [],
        },
        {
            "mark": {"type": "point", "size": 60, "filled": True},
            "encoding": {
                "opacity": {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0},
                "tooltip": tooltip,
            },
            "params": [hover],
        },
    ]
    for layer in layers:
        layer["encoding"] |= {"x": _X, "y": y, "color": colour}
    if limits:
        layers.append(
            {
                "data": {
                    "values": [{"series": name, "value": value} for name, value in limits.items()]
                },
                "mark": {"type": "rule", "strokeDash": [5, 4], "size": 1.5},
                "encoding": {
                    "y": y,
                    "color": colour,
                    "tooltip": [
                        {"field": "series", "title": " "},
                        {"field": "value", "format": form, "title": "true entropy of the corpus"},
                    ],
                },
            }
        )
    return {
        "height": HEIGHT,
        "width": "container",
        "params": [{"name": "axis", "value": "tokens"}, {"name": "chosen_run", "value": None}],
        "data": {"values": points},
        "transform": [{"calculate": "datum[axis]", "as": "x"}],
        "layer": layers,
    }


def shares(rows: Sequence[Mapping[str, Any]]) -> Spec:
    """Bars of what was drawn, a tick where it should end: rows of language, drawn, asked."""
    y = {"field": "language", "type": "nominal", "title": None}
    tooltip = [
        {"field": "language", "title": " "},
        {"field": "tokens", "format": ",", "title": "tokens"},
        {"field": "drawn", "format": ".2%", "title": "drawn"},
        {"field": "asked", "format": ".2%", "title": "asked for"},
    ]
    return {
        "height": 44 * len(rows) + 20,
        "width": "container",
        "data": {"values": list(rows)},
        "encoding": {"y": y, "tooltip": tooltip},
        "layer": [
            {
                "mark": {"type": "bar", "height": 22, "cornerRadiusEnd": 3},
                "encoding": {
                    "x": {
                        "field": "drawn",
                        "type": "quantitative",
                        "title": "share of the tokens",
                        "axis": {"format": "%"},
                    },
                    "color": _colour("language", [row["language"] for row in rows])
                    | {"legend": None},
                },
            },
            {
                "mark": {"type": "tick", "thickness": 3, "size": 34, "color": "var(--ink)"},
                "encoding": {"x": {"field": "asked", "type": "quantitative"}},
            },
        ],
    }


def word_map(words: Sequence[Mapping[str, Any]], labelled: int) -> Spec:
    """Words as places in the plane; the `labelled` most frequent ones are written out."""
    ranked = sorted(words, key=lambda word: -float(word["count"]))
    rows = [dict(word, label=index < labelled) for index, word in enumerate(ranked)]
    place = {
        name: {
            "field": name,
            "type": "quantitative",
            "title": None,
            "axis": {"labels": False, "ticks": False},
            "scale": {"zero": False},
        }
        for name in ("x", "y")
    }
    names = sorted({str(word["language"]) for word in words})
    tooltip = [
        {"field": "word", "title": " "},
        {"field": "language", "title": "mostly"},
        {"field": "count", "title": "in the valid text", "format": ","},
    ]
    return {
        "height": 460,
        "width": "container",
        "data": {"values": rows},
        "encoding": place
        | {"color": _colour("language", names), "opacity": _when_chosen(0.8, 0.08)},
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 30},
                "encoding": {"tooltip": tooltip},
                "params": [_legend_choice("language")],
            },
            {
                "transform": [{"filter": "datum.label"}],
                "mark": {"type": "text", "dy": -8, "fontSize": 11},
                "encoding": {"text": {"field": "word"}},
            },
        ],
    }


def evaluation(test: Mapping[str, Any], group: str) -> Spec:
    """A test of `xlm-evaluate suite=...`: values with intervals, over an axis if it has one."""
    rows = [dict(row) for row in test["rows"] if row["group"] == group]
    series = list(dict.fromkeys(str(row["series"]) for row in test["rows"]))
    is_share = test.get("unit") == "share"
    has_axis = any(row.get("x") is not None for row in rows)
    value: Spec = {"type": "quantitative", "title": str(test["metric"]).replace("_", " ")}
    if is_share:
        value |= {"axis": {"format": "%"}, "scale": {"domain": [0, 1]}}
    across, along = ("y", "x") if has_axis else ("x", "y")
    place: Spec = {"field": "series", "type": "nominal", "title": None, "sort": series}
    if has_axis:
        place = {"field": "x", "type": "quantitative", "title": test.get("x_name")}
        place["axis"] = {"tickMinStep": 1}
    form = ".1%" if is_share else ",.3f"
    tooltip = [
        {"field": "series", "title": " "},
        *([{"field": "x", "title": test.get("x_name")}] if has_axis else []),
        {"field": "value", "format": form, "title": value["title"]},
        {"field": "low", "format": form, "title": "95 % from"},
        {"field": "high", "format": form, "title": "to"},
        {"field": "count", "format": ",", "title": "of so many"},
    ]
    middle = {across: {"field": "value", **value}}
    span = {across: {"field": "low", **value}, f"{across}2": {"field": "high"}}
    point = {"type": "point", "filled": True, "size": 70, "opacity": 1}
    layers: list[Spec] = [
        *([{"mark": {"type": "line"}, "encoding": middle}] if has_axis else []),
        {"mark": {"type": "rule", "size": 2}, "encoding": span},
        {"mark": point, "encoding": middle | {"tooltip": tooltip}},
    ]
    colour = _colour("series", series) | ({} if has_axis else {"legend": None})
    for layer in layers:
        layer["encoding"] = layer["encoding"] | {along: place, "color": colour}
    if test.get("chance") is not None:
        dashed = {"type": "rule", "strokeDash": [4, 4], "color": "var(--muted)"}
        layers.append({"mark": dashed, "encoding": {across: {"datum": test["chance"]}}})
    return {
        "height": 180 if has_axis else 30 * len(series) + 10,
        "width": "container",
        "data": {"values": rows},
        "layer": layers,
    }


def _rows(name: str, curve: Sequence[Point]) -> Iterable[dict[str, Any]]:
    """Means of neighbours, where there are more points than a screen shows."""
    together = -(-len(curve) // MAX_POINTS)
    for start in range(0, len(curve), max(together, 1)):
        part = curve[start : start + together]
        last = part[-1]
        yield {
            "series": name,
            "step": last.step,
            "tokens": round(last.tokens),
            "seconds": round(last.seconds, 1),
            "time": duration(last.seconds),
            "value": float(f"{sum(point.value for point in part) / len(part):.6g}"),
        }


def _colour(field: str, names: Sequence[str]) -> Spec:
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(names))]
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(names), "range": colours},
        "legend": {"title": None, "orient": "top"} if len(names) > 1 else None,
    }


def _legend_choice(field: str) -> Spec:
    return {"name": "chosen", "select": {"type": "point", "fields": [field]}, "bind": "legend"}


def _when_chosen(yes: float, no: float) -> Spec:
    return {"condition": {"param": "chosen", "value": yes}, "value": no}
