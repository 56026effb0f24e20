"""Locks on files of a shared folder, which end with the process that holds them, however it ends.

They are `flock`s, so the kernel frees those of a killed process, and the server of a shared file
system those of a machine that is lost. A lock file is no sign of a lock and may lie about.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from data_prep.progress import note


class Claim:
    """A lock that is held."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def release(self) -> None:
        self._file.close()


def claim(path: Path) -> Claim | None:
    """Lock the file `path`, made if need be; None when another process has locked it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")  # NFS locks exclusively what is open for writing
    if lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return Claim(file)
    file.close()
    return None


def lock(file: IO[bytes], operation: int) -> bool:
    """`flock` it; False when that would block and `operation` says not to."""
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    return True


@contextmanager
def one_at_a_time(path: Path, task: str) -> Iterator[None]:
    """Hold the lock file `path` for the block, after all others; it is removed at the end.

    Who has to wait is told so, by the name of the `task`. A folder that cannot be written is not
    locked: nothing can happen there.
    """
    if not os.access(path.parent, os.W_OK):
        yield
        return
    while True:
        with path.open("ab") as file:
            if not lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                note(f"another process is at work: {task}; waiting until it has ended")
                lock(file, fcntl.LOCK_EX)
            if not is_file_of(
                path, file
            ):  # its last holder has removed it: another file counts by now
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def is_file_of(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file still stands under its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
