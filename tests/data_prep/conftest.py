"""A small text in two languages, and the preparation of it with the tests' own sizes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_preparation import arguments, make_text

from data_prep.prepare import prepare

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
    prepare(out=folder / "out", files=write_files(folder / "text"), **arguments())
    return folder / "out"


@pytest.fixture
def prepared(prepared_once: Path, tmp_path: Path) -> Path:
    """The prepared folder of `files`, which a test may alter."""
    return Path(shutil.copytree(prepared_once, tmp_path / "prepared"))


@pytest.fixture
def prepare_small() -> Prepare:
    """`prepare` with small defaults; keyword arguments change them."""

    def run(out: Path, files: Any, **changes: Any) -> dict[str, Any]:
        return prepare(out=out, files=files, **arguments(**changes))

    return run
