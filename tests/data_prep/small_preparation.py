"""A made-up text, and the arguments that prepare it in small pieces."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from data_prep.lines import TextPolicy
from data_prep.prepare import prepare
from data_prep.settings import Settings, check_text_model

SYLLABLES = ["ba", "de", "ki", "lo", "mu", "na", "po", "ri", "su", "te", "vä", "zö", "ça", "né"]


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


def prepare_with(out: Path, files: Any, **given: Any) -> dict[str, Any]:
    """Call `prepare` as the command does, with `arguments()`."""
    settings = Settings(
        mode=given["mode"],
        lowercase_and_remove_accent=given["lowercase_and_remove_accent"],
        policy=TextPolicy(given["invalid_utf8"], given["max_word_length"]),
        shard_megabytes=given["shard_megabytes"],
        merges=given["merges"],
        given=check_text_model(given["merges"], given["codes"], given["vocabulary"]),
    )
    return prepare(
        out=out, files=files, settings=settings, workers=given["workers"], corpus=given["corpus"]
    )


def arguments(**changes: Any) -> dict[str, Any]:
    """The small defaults of `prepare_with`, as JSON can hold them."""
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
