"""A small text in two languages and its preparation; small dumps on a server of our own."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from file_server import Remote, serve
from small_preparation import arguments, make_text, prepare_with

PAGE = "<page><title>{0}</title><ns>{1}</ns><revision><text>{2}</text></revision></page>\n"
Prepare = Callable[..., dict[str, Any]]


def write_files(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Text files of about 100 kB (train) and 5 kB (valid, test) in German and English."""
    folder.mkdir()
    given: dict[str, dict[str, list[Path]]] = {}
    for seed, (split, lines) in enumerate({"train": 2000, "valid": 100, "test": 100}.items()):
        for language in ("de", "en"):
            path = folder / f"{split}.{language}.txt"
            path.write_text(make_text(seed + 10 * (language == "en"), lines), encoding="utf-8")
            given.setdefault(split, {})[language] = [path]
    return given


@pytest.fixture
def files(tmp_path: Path) -> dict[str, dict[str, list[Path]]]:
    """Small text files that a test may alter."""
    return write_files(tmp_path / "text")


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of the small files; not to be altered."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare_with(folder / "out", write_files(folder / "text"), **arguments())
    return folder / "out"


@pytest.fixture
def prepared(prepared_once: Path, tmp_path: Path) -> Path:
    """The prepared folder of `files`, which a test may alter."""
    return Path(shutil.copytree(prepared_once, tmp_path / "prepared"))


@pytest.fixture
def prepare_small() -> Prepare:
    """`prepare` with small defaults; keyword arguments change them."""

    def run(out: Path, files: Any, **changes: Any) -> dict[str, Any]:
        return prepare_with(out, files, **arguments(**changes))

    return run


@pytest.fixture
def remote() -> Iterator[Remote]:
    with serve(Remote()) as served:
        yield served


@pytest.fixture
def crawl(remote) -> Remote:
    for language in ("de", "en"):
        for year in (2007, 2008):
            text = "".join(f"{language} {year} sentence {i} .\n" for i in range(500))
            name = f"news.{year}.{language}.shuffled.deduped.gz"
            remote.files[f"/{language}/{name}"] = gzip.compress(text.encode())
    return remote


@pytest.fixture
def wiki(remote) -> Remote:
    for language in ("de", "en"):
        pages = [
            PAGE.format(f"Title {i}", 0, f"'''Article {i}''' first.\n\n== Part ==\nSecond {i}.")
            for i in range(450)
        ]
        pages[3] = PAGE.format("Talk", 1, "Not an article.")
        pages[4] = PAGE.format("Old", 0, "#REDIRECT [[New]]").replace("<rev", "<redirect/><rev")
        pages[5] = PAGE.format("Only", 0, "{{template}}")
        dump = (
            '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/"><siteinfo><namespaces>'
            '<namespace key="6">Bestand</namespace></namespaces></siteinfo>\n'
            + "".join(pages)
            + "</mediawiki>\n"
        ).encode()
        half = len(dump) // 2
        packed = bz2.compress(dump[:half]) + bz2.compress(dump[half:])  # several streams
        site, name = f"/{language}wiki", f"{language}wiki-20240101-pages-articles.xml.bz2"
        remote.files[f"{site}/20240101/{name}"] = packed
        sums = f"{'0' * 40}  {language}wiki-20240101-page.sql.gz\n"
        sums += f"{hashlib.sha1(packed).hexdigest()}  {name}\n"
        remote.files[f"{site}/latest/{language}wiki-latest-sha1sums.txt"] = sums.encode()
        remote.files[f"{site}/20240101/{language}wiki-20240101-sha1sums.txt"] = sums.encode()
    return remote
