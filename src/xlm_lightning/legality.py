"""The rules that fields of the schema carry in their annotations, and the walk that applies them.

`dropout: Annotated[float, AtLeast(0), Below(1)]` reads as it is meant: OmegaConf sees the float,
the walk sees the rules. Types are OmegaConf's business; what it lets pass (a YAML `no` in a text
field) is caught here. No Hydra, no OmegaConf: only dataclasses and plain values.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Protocol, Union, get_args, get_origin, get_type_hints

from xlm_lightning.errors import UserError, did_you_mean

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list, as [a,b]",
    dict: "a set of keys",
    NoneType: "null",
}


class Rule(Protocol):
    """One restriction of a value; `None` always passes (the type says whether None is allowed)."""

    def broken(self, value: Any) -> str:
        """Return what is allowed instead, or the empty string where `value` is fine."""


@dataclasses.dataclass(frozen=True)
class _Bound:
    """A limit of a number; `str()` of this and of other rules says what is allowed, in words."""

    limit: float
    words: ClassVar[str]
    holds: ClassVar[Callable[[Any, float], bool]]

    def __str__(self) -> str:
        return f"{self.words} {self.limit}"

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        return "" if type(self).holds(value, self.limit) else f"must be {self}"


class AtLeast(_Bound):
    """`value >= limit`."""

    words, holds = "at least", operator.ge


class Above(_Bound):
    """`value > limit`."""

    words, holds = "above", operator.gt


class AtMost(_Bound):
    """`value <= limit`."""

    words, holds = "at most", operator.le


class Below(_Bound):
    """`value < limit`."""

    words, holds = "below", operator.lt


class OneOf:
    """One of a closed list of words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        near = did_you_mean(str(value), self.words)
        return "" if value in self.words else f"must be {self}.{near}"


class NotEmpty:
    """At least one character: an empty path would mean the folder one happens to be in."""

    def __str__(self) -> str:
        return "not empty"

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        return "" if value else "must not be empty"


class OnThisMachine:
    """A path, and not the address of an object store."""

    def __str__(self) -> str:
        return "on this machine"

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        return f"must be {self}; see docs/streaming.md" if "://" in value else ""


class Existing:
    """A file or folder that must be there when a command starts; `unless` lists other legal words.

    `what` says `file`, `folder`, or in words what may be either. With `hub` a value such as
    `owner/name` may also be a model's name on the Hugging Face hub, with `remote` an address in an
    object store. Checked by `check_files`, not by `check`: a configuration is legal on machines
    without its data.
    """

    def __init__(
        self,
        what: str,
        *,
        unless: tuple[str, ...] = (),
        hub: bool = False,
        remote: bool = False,
    ) -> None:
        self.what = what
        self.unless = unless
        self.hub = hub
        self.remote = remote

    def __str__(self) -> str:
        elsewhere = " or a name on the Hugging Face hub" * self.hub + " or an address" * self.remote
        return " or ".join([*self.unless, f"an existing {self.what}{elsewhere}"])

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        path = Path(value)
        if path.exists() and self.what in ("file", "folder"):
            wrong = path.is_dir() == (self.what == "file")
            return f"must be a {self.what}" if wrong else ""
        if value in self.unless or path.exists() or (self.hub and _may_be_on_the_hub(value)):
            return ""
        if "://" in value:
            return "" if self.remote else OnThisMachine().broken(value)
        folder = Path(value).absolute().parent
        if not folder.is_dir():
            return f"no such {self.what} (there is no folder {str(folder)!r} either)"
        there = (path.name for path in folder.iterdir())
        near = did_you_mean(Path(value).name, [*self.unless, *there])
        return f"no such {self.what} in {str(folder)!r}.{near}"


class FolderToBe:
    """A folder that a command may make: nothing on the way to it is a file. See `check_files`."""

    def __str__(self) -> str:
        return "a folder that is there or can be made"

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        if "://" in value:
            return OnThisMachine().broken(value)
        path = Path(value).absolute()
        nearest = next(folder for folder in (path, *path.parents) if folder.exists())
        if not nearest.is_dir():
            return f"{nearest} is a file; choose another folder"
        writable = os.access(nearest, os.W_OK)
        return "" if writable else f"{nearest} may not be written; choose another folder"


def _may_be_on_the_hub(name: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).parent.exists()


class Verbatim:
    """Free text and paths: whatever stands behind `key=` is the value, whatever Hydra's grammar
    would make of its commas, brackets and equal signs."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One leaf or folder of a schema."""

    key: str  # dotted, from the root
    kinds: tuple[Any, ...]  # the types it may have; more than one for a union
    rules: tuple[Any, ...]

    @property
    def kinds_in_words(self) -> str:
        """`a whole number or null`; empty where anything may stand."""
        words = [_WORDS.get(get_origin(kind) or kind, "") for kind in self.kinds]
        return " or ".join(word for word in words if word)

    def is_number(self, given: bool | float) -> bool:
        """Whether a text is read as a number later on, which YAML has only done sooner."""
        return not isinstance(given, bool) and any(hasattr(r, "reads_numbers") for r in self.rules)

    @property
    def folder(self) -> type | None:
        """The dataclass of what it holds, None for a leaf."""
        for kind in self.kinds:
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                return kind
        return None


def fields(schema: type, prefix: str = "") -> Iterator[Field]:
    """Yield every key of `schema`, folders before what they hold."""
    for name, hint in get_type_hints(schema, include_extras=True).items():
        rules: tuple[Any, ...] = ()
        if get_origin(hint) is Annotated:
            hint, *found = get_args(hint)
            rules = tuple(found)
        is_union = get_origin(hint) in (Union, UnionType)
        field = Field(f"{prefix}{name}", get_args(hint) if is_union else (hint,), rules)
        yield field
        if field.folder is not None:
            yield from fields(field.folder, f"{prefix}{name}.")


def check(config: Any, raw: Mapping[str, Any], prefix: str = "") -> None:
    """Apply every rule below `config`; `raw` is the same tree before types were converted."""
    for field, value in _values(config, prefix):
        given = raw.get(field.key.removeprefix(prefix))
        if str in field.kinds and isinstance(given, bool | float) and not field.is_number(given):
            raise UserError(
                f"{field.key}={given}: must be a text, but YAML reads a {_kind(given)}; quote it"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{field.key}={value}: must be a finite number")
        for rule in field.rules:
            if value is not None and not isinstance(rule, Existing | FolderToBe | Verbatim):
                _apply(rule, field.key, value)
        if dataclasses.is_dataclass(value):
            check(value, given or {}, f"{field.key}.")


def check_files(config: Any, prefix: str = "") -> None:
    """Raise `UserError` for the first file or folder below `config` that is not there, or that
    cannot be made."""
    for field, value in _values(config, prefix):
        for rule in field.rules:
            if value is not None and isinstance(rule, Existing | FolderToBe):
                try:
                    _apply(rule, field.key, value)
                except OSError as error:  # a name that is too long, a circle of links
                    raise UserError(f"{field.key}={value}: {error.strerror}") from error
        if dataclasses.is_dataclass(value):
            check_files(value, f"{field.key}.")


def check_shape(schema: type, raw: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a plain value where keys belong: `checkpoint=x` for `checkpoint.keep_last=x`."""
    for field in _level(schema, prefix):
        value = raw.get(field.key.removeprefix(prefix))
        if field.folder is None or (value is None and NoneType in field.kinds):
            continue
        if isinstance(value, Mapping):
            check_shape(field.folder, value, f"{field.key}.")
        elif field.key.removeprefix(prefix) in raw:
            first = next(fields(field.folder, f"{field.key}."))
            raise UserError(f"{field.key}={value}: holds keys, say such as {first.key}=...")


def type_needed(key: str, schema: type, prefix: str = "") -> str:
    """Return what kind of value `key` needs, in words; empty for an unknown key."""
    return next((f.kinds_in_words for f in fields(schema, prefix) if f.key == key), "")


def _values(config: Any, prefix: str) -> Iterator[tuple[Field, Any]]:
    for field in _level(type(config), prefix):
        yield field, getattr(config, field.key.removeprefix(prefix))


def _level(schema: type, prefix: str) -> Iterator[Field]:
    depth = prefix.count(".")
    return (field for field in fields(schema, prefix) if field.key.count(".") == depth)


def _apply(rule: Rule, key: str, value: Any) -> None:
    if isinstance(value, dict):
        for name, one in value.items():
            _apply(rule, f"{key}.{name}", one)
        return
    values = value if isinstance(value, list) else [value]
    for one in values:
        if complaint := rule.broken(one):
            raise UserError(f"{key}={value}: {complaint}")


def _kind(value: object) -> str:
    return "yes-or-no value" if isinstance(value, bool) else "number"
