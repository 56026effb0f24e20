"""The pages of docs/: they build without a warning, lead everywhere, name keys that exist, and need
nothing from the network; the notebook runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from commands import environment
from configuration_pages import pages
from in_process import call
from nbclient import NotebookClient
from test_config import COMMANDS
from training import WORDS

from xlm_lightning import compose
from xlm_lightning.legality import fields
from xlm_lightning.overrides import Command, options_of
from xlm_lightning.schema import CORPORA, Slurm, Sweep

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTEBOOK = DOCS / "notebooks" / "look_at_a_run.ipynb"


def leaves(schema: type, prefix: str = "") -> set[str]:
    return {field.key for field in fields(schema, prefix) if field.folder is None}


KEYS = {command.name: leaves(command.schema) for command in COMMANDS}
KEYS["prepare"] |= {key for corpus in CORPORA.values() for key in leaves(corpus, "corpus.")}
KEYS["sweep"] = leaves(Sweep, "sweep.") | leaves(Slurm, "hydra.launcher.")


# --- what is generated ----------------------------------------------------------------------------
ROW = re.compile(r"^\| `(?P<key>[\w.]+)` \| (?P<kind>.*) \| (?P<default>.*) \| (?P<meaning>.*) \|$")


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return pages()


def rows(text: str) -> dict[str, re.Match[str]]:
    return {row["key"]: row for line in text.splitlines() if (row := ROW.match(line))}


@pytest.mark.parametrize("command", KEYS)
def test_every_key_is_explained(command: str, written: dict[str, str]) -> None:
    told = rows("\n".join(written.values()))
    for key in sorted(KEYS[command]):
        assert key in told, f"{key} is on no page"
        assert told[key]["kind"], key
        assert told[key]["meaning"], f"{key}: what does it mean? Say it behind its default in conf/"


@pytest.mark.parametrize("command", [*COMMANDS, compose.SWEEP], ids=lambda command: command.name)
def test_every_option_is_listed(command: Command, written: dict[str, str]) -> None:
    for group in command.groups:
        for option in options_of(group):
            line = next(row for row in written[group].splitlines() if f"{group}={option}" in row)
            assert not line.endswith("|  |  |"), (
                f"conf/{group}/{option}.yaml begins with no comment"
            )


def test_types_ranges_and_defaults_are_those_of_schema_and_conf(written: dict[str, str]) -> None:
    data, model = rows(written["data"]), rows(written["model"])
    assert data["data.alpha"]["kind"] == "a number, at least 0, at most 1"
    assert data["data.alpha"]["default"] == "`0.7`"
    assert data["data.prepare"]["kind"] == "a text or null, one of sample, sample\\_tiny"
    assert data["data.dir"]["default"] == "none"
    assert model["model.layers"]["default"] == "`4`"
    assert "| `model=xlm_1024` |" in written["model"]
    assert "`model.dim=1024`" in written["model"]
    assert rows(written["corpus"])["corpus.base_url"]["default"].startswith("`https://")
    assert "max_steps: 20\n" in written["experiment"]


# --- what is written by hand ----------------------------------------------------------------------
NO_KEYS = {"model.dimm", "model.generate", "trainer.max_epochs"}  # a mistake; others' words
FILES = ("csv", "json", "md", "py", "safetensors", "yaml")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_the_pages_name_keys_that_exist(page: Path) -> None:
    """What looks like a key, `data.alpha`, is one, or the beginning of some."""
    known = set().union(*KEYS.values())
    folders = {key.partition(".")[0] for key in known if "." in key} - {"hydra"}
    for key in re.findall(
        rf"(?<![\w./-])(?:{'|'.join(folders)})\.[a-z_.]*[a-z_]", page.read_text()
    ):
        if key.endswith(FILES) or key in NO_KEYS:
            continue
        longer = any(one.startswith(f"{key}.") or key.startswith(f"{one}.") for one in known)
        assert key in known or longer, f"{page.name}: {key}"


# --- what is built --------------------------------------------------------------------------------
@dataclass
class Html(HTMLParser):
    """Anchors of a page, where it leads, and what a browser fetches to show it."""

    file: Path
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link":
            self.fetched.append(given["href"])
        self.fetched += [given[name] for name in ("src", "data", "poster") if name in given]

    def targets(self) -> Iterator[tuple[Path, str]]:
        """File and anchor of every local link."""
        for link in [*self.links, *self.fetched]:
            parts = urlsplit(link)
            if not parts.scheme and not parts.netloc:
                path = self.file.parent / unquote(parts.path) if parts.path else self.file
                yield path.resolve(), unquote(parts.fragment)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Html]:
    out = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *("-b", "html", "-q", "-n", "-W", "--keep-going"),
         *("-d", out / "doctrees"), DOCS, out / "html"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {file: Html(file) for file in (out / "html").rglob("*.html")}


@pytest.mark.slow
def test_every_link_leads_somewhere(built: dict[Path, Html]) -> None:
    for page in built.values():
        for target, anchor in page.targets():
            assert target.is_file(), f"{page.file.name} leads to {target}"
            if anchor and target.suffix == ".html":
                assert anchor in built[target].ids, f"{page.file.name}: {target.name}#{anchor}"


@pytest.mark.slow
def test_every_page_is_reached_from_the_first(built: dict[Path, Html]) -> None:
    (index,) = (file for file in built if file.name == "index.html" and file.parent.name == "html")
    reached, ahead = {index}, [index]
    while ahead:
        for target, _ in built[ahead.pop()].targets():
            if target in built and target not in reached:
                reached.add(target)
                ahead.append(target)
    for page in [*DOCS.glob("*.md"), *DOCS.glob("configuration/*.md")]:
        place = page.relative_to(DOCS).with_suffix(".html")
        assert index.parent / place in reached, f"{place} is in no table of contents"


@pytest.mark.slow
def test_no_page_fetches_anything_from_the_network(built: dict[Path, Html]) -> None:
    for page in built.values():
        for address in page.fetched:
            parts = urlsplit(address)
            assert parts.scheme in ("", "data"), f"{page.file.name}: {address}"
            assert not parts.netloc, f"{page.file.name}: {address}"
    styles = {style for page in built for style in page.parent.rglob("*.css")}
    assert styles
    for style in styles:
        text = re.sub(r"/\*.*?\*/", "", style.read_text("utf-8"), flags=re.DOTALL)
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", text), style.name


# --- the notebook ---------------------------------------------------------------------------------
def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.slow
def test_the_notebook_runs(prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("callbacks.samples.new_tokens=5", f"data.dir={prepared}", f"run.dir={run}")
    call("xlm-train", *WORDS, *words).expect()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    with patch.dict(os.environ, {**environment(), "RUN": str(run)}):
        NotebookClient(notebook, timeout=120, resources=where).execute()
    told = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in told if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    text = "".join(output.text for output in told if output.output_type == "stream")
    assert "60 steps" in text
    assert text.count("\nen: ") == 4
