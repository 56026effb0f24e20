"""A made-up text, and the arguments that prepare it in small pieces."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

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
