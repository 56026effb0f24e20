"""The library that draws the plots, Vega-Lite, as text to be put into a page.

vl-convert brings it and joins its parts, which takes seconds: done once a machine, kept in a cache.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import vl_convert

from xlm_lightning.atomic import write_text

_CACHE = Path("~/.cache/xlm-lightning")


@cache
def javascript() -> str:
    """Return the text of a script that defines `vegaEmbed`."""
    path = _CACHE.expanduser() / f"vega-embed-{version('vl-convert-python')}.js"
    with suppress(OSError):
        return path.read_text("utf-8")
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    with suppress(OSError):  # a home that cannot be written costs seconds, no more
        write_text(path, script)
    return script
