"""A page: a template of this folder, its style, its plots and the script that draws them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from xlm_lightning import __version__
from xlm_lightning.reporting.plots import COLOURS, Spec
from xlm_lightning.reporting.vega import javascript

_FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif"
_INK, _MUTED, _GRID = "var(--ink)", "var(--muted)", "var(--grid)"
THEME = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "range": {"category": COLOURS},
    "axis": {
        "labelColor": _MUTED,
        "titleColor": _MUTED,
        "titleFontWeight": "normal",
        "gridColor": _GRID,
        "domainColor": _GRID,
        "tickColor": _GRID,
        "labelFontSize": 11,
    },
    "legend": {"labelColor": _INK, "labelFontSize": 12, "symbolSize": 90},
    "line": {"strokeWidth": 2},
    "text": {"color": _INK, "fill": _INK},
}


@dataclass(frozen=True)
class Plot:
    """A picture with a title and a sentence on what is to be seen."""

    title: str
    said: str
    spec: Spec


def render(template: str, **values: Any) -> str:
    """Fill a template; whatever a run has written is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("pages")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # no browser reads NaN
    return environment.get_template(template).render(
        values,
        vega=javascript(),
        theme=THEME,
        version=__version__,
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )
