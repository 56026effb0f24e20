"""Figures and values as people write them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any


def typed(value: Any) -> str:
    """A value as in a configuration file or on the command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def counted(number: float) -> str:
    """12,345, but 1.23 million."""
    return f"{number:,.0f}" if number < 1e6 else f"{number / 1e6:,.2f} million"


def number(value: float) -> str:
    """Three figures after the point for small numbers, none for large ones."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.3f}" if value < 100 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """As people say it: 12 s, 4 min 20 s, 3 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def short(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""
