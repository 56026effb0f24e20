"""Read small files (codes, vocabulary, text to score), or say in one line why it cannot be."""

from __future__ import annotations

from pathlib import Path

from xlm_lightning.errors import UserError


def read_lines(path: Path, kind: str) -> list[str]:
    """Return the lines of a UTF-8 file, split at newlines only; `kind` names it in errors."""
    if path.is_dir():
        raise UserError(f"{path}: this is a folder, not a {kind} file.")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such {kind} file.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the {kind} file ({error.strerror}).") from None
    if not content.strip():
        raise UserError(f"{path}: the {kind} file is empty.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {number}: not UTF-8 text, so not a {kind} file.") from None
    if "\0" in text:
        raise UserError(f"{path}: binary data, not a {kind} file.")
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_text_lines(path: Path, key: str) -> list[str]:
    """Return the lines of a user's text; `key` of the configuration named it.

    Not `splitlines()`: it also breaks at U+2028 and other characters inside a line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{key}={path} cannot be read ({error.strerror})") from error
    return text_lines(content, f"{key}={path}")


def text_lines(content: bytes, name: str) -> list[str]:
    """Return the lines of a user's text, which errors call `name`."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name}, line {number}: not UTF-8 text") from error
    if not text.strip():
        raise UserError(f"{name} is empty")
    return text.removesuffix("\n").split("\n")
