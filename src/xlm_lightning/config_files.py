"""`conf/` as files: where it lies, and what it says before anybody has chosen anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from xlm_lightning.recall import flat


def config_folder() -> Path:
    """Return `conf/`: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent.parent / "conf"


def default_values(entry: str) -> dict[str, Any]:
    """Return every key, dotted, as `conf/ENTRY.yaml` and the options it begins with have it.

    Without an experiment, which is a choice; keys whose value is made of others are left out.
    """
    keys = _read(f"{entry}.yaml")
    values: dict[str, Any] = {}
    for group, option in _options(keys.pop("defaults")):
        if group not in ("experiment", "debug"):
            values |= flat(_read(f"{group}/{option}.yaml"), f"{group}.")
    values |= flat(keys)
    return {key: value for key, value in values.items() if "${" not in str(value)}


def _options(defaults: list[Any]) -> Iterator[tuple[str, str]]:
    for choice in defaults:
        if isinstance(choice, dict):
            ((group, option),) = choice.items()
            if " " not in group and isinstance(option, str):
                yield group, option


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((config_folder() / name).read_text("utf-8"))
    return content
