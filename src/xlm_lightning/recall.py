"""The words with which a run was started, for a command that goes on with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from xlm_lightning.errors import UserError

OVERRIDES = "overrides.yaml"
_RENAMED = {  # words of a run that was started before
    "data.pair_tokens": "data.sentence_tokens",
    "data.pair_max_length": "data.sentence_max_length",
}
_OWN = {"run.dir", "resume", "trainer.max_time"}  # of one start, not of the run


def recalled(arguments: Sequence[str]) -> list[str]:
    """Return the words of a run that was stopped, followed by those that are new.

    So `xlm-train run.dir=DIR` goes on with what was asked for when DIR was new, and a word more
    changes that one thing. Words are as they were where nothing is to be gone on with. Raises
    `UserError` where those of before cannot be read.
    """
    typed = {_key(word): word.partition("=")[2] for word in arguments if "=" in word}
    folder = Path(typed.get("run.dir", ""))
    file = folder / OVERRIDES
    goes_on = typed.get("resume", "auto") == "auto" and os.access(folder, os.X_OK)
    goes_on = goes_on and any(folder.glob("checkpoints/*.ckpt"))
    if "run.dir" not in typed or {"-m", "--multirun"} & set(arguments) or not goes_on:
        return list(arguments)
    before = _words_of(file) if file.is_file() else []
    return [word for word in before if _key(word) not in typed.keys() | _OWN] + list(arguments)


def _words_of(file: Path) -> list[str]:
    try:
        words = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(
            f"{file} is not the list of words that xlm-train has written; restore it, or say "
            f"resume={file.parent} and all words"
        )
    return [_renamed(word) for word in words]


def _renamed(word: str) -> str:
    key = _key(word)
    return word.replace(key, _RENAMED.get(key, key), 1)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return `key: old -> new` for all keys in which two configurations differ."""
    old, new = dict(flat(before)), dict(flat(now))
    return [
        f"{key}: {old.get(key, 'not set')} -> {new.get(key, 'not set')}"
        for key in sorted(old.keys() | new.keys())
        if key not in _OWN and old.get(key) != new.get(key)
    ]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key, dotted, with its value."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
