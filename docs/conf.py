"""Sphinx's configuration: `make docs` builds the pages in docs/_build/html."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from configuration_pages import write_pages  # noqa: E402

project = "xlm-lightning"
extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build"]
highlight_language = "none"  # of blocks that name none: Sphinx would take them for Python
html_theme = "furo"
html_title = "xlm-lightning"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
myst_heading_anchors = 3  # [a link](page.md#as-on-github)


def setup(app: Sphinx) -> None:
    """Pages on the configuration are written before Sphinx looks for pages."""
    app.connect("builder-inited", lambda _: write_pages(HERE / "configuration"))
