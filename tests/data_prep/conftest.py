"""A small text in two languages, and the preparation of it with the tests' own sizes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.prepare import prepare

SYLLABLES = ["ba", "de", "ki", "lo", "mu", "na", "po", "ri", "su", "te", "vä", "zö", "ça", "né"]
Prepare = Callable[..., dict[str, Any]]


def make_text(seed: int, lines: int) -> str:
    """Sentences of a made-up language; about every twentieth line is blank."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(300)]
    return "".join(
        "\n"
        if rng.random() < 0.05
        else " ".join(rng.choices(words, k=rng.randint(3, 12))).capitalize() + ".\n"
        for _ in range(lines)
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones included, by its relative name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def files(tmp_path: Path) -> dict[str, dict[str, list[Path]]]:
    """Text files of about 100 kB (train) and 5 kB (valid, test) in German and English."""
    folder = tmp_path / "text"
    folder.mkdir()
    given: dict[str, dict[str, list[Path]]] = {}
    for seed, (split, lines) in enumerate({"train": 2000, "valid": 100, "test": 100}.items()):
        for language in ("de", "en"):
            path = folder / f"{split}.{language}.txt"
            path.write_text(make_text(seed + 10 * (language == "en"), lines), encoding="utf-8")
            given.setdefault(split, {})[language] = [path]
    return given


def arguments(**changes: Any) -> dict[str, Any]:
    """Keyword arguments of `prepare`, but for `out` and `files`."""
    return {
        "mode": "moses",
        "lowercase_and_remove_accent": False,
        "merges": 100,
        "codes": None,
        "vocabulary": None,
        "workers": 0,
        "shard_megabytes": 0.02,
        "invalid_utf8": "error",
        "max_word_length": 100,
        "corpus": {"name": "text"},
        **changes,
    }


@pytest.fixture
def prepare_small() -> Prepare:
    """`prepare` with small defaults; keyword arguments change them."""

    def run(out: Path, files: Any, **changes: Any) -> dict[str, Any]:
        return prepare(out=out, files=files, **arguments(**changes))

    return run
