"""Files that are either whole or absent: written under a temporary name, flushed, then renamed.

A rename is atomic only inside one file system, so the temporary name stands beside its target and
never in the system's temporary folder (a copy across file systems can leave a torn file).
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

TEMPORARY_PREFIX = ".partial-"
_unfinished: set[Path] = set()  # temporary files of this process
_beginning = threading.Lock()


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not the process id: processes of two machines may write the same file and have the same id
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}"
    try:
        with _beginning:
            _unfinished.add(temporary)
            file = temporary.open("wb")
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise _named(error, path) from None
    finally:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


def end_process(code: int) -> NoReturn:
    """End this process now, from whatever thread, with none of its temporary files left."""
    _beginning.acquire()  # for good: no further file is begun
    for temporary in list(_unfinished):
        temporary.unlink(missing_ok=True)
    os._exit(code)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def append_text(path: Path, text: str) -> None:
    """Add `text`, as UTF-8, to the end of a file: all that a kill can tear is its last line."""
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise _named(error, path) from None


def _named(error: OSError, path: Path) -> OSError:
    """The same error with a file's name: one of a write that failed has none."""
    if error.filename is None:
        error.filename = str(path)
    return error


def replace_link(path: Path, target: str) -> None:
    """Let the symbolic link `path` point to `target`, with no moment without one."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}"
    temporary.symlink_to(target)
    temporary.replace(path)
    _fsync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process has left below `folder`; nobody may be writing there."""
    for temporary in folder.rglob(f"{TEMPORARY_PREFIX}*"):
        temporary.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
