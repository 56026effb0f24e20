"""A folder of bounded size whose files several processes fetch, read and remove.

They may belong to one run or to several. Locks of the file system keep order, since they end with
their process, however that ends:

* who fetches a file holds its partial file exclusively, the others wait;
* who reads a shard holds it shared as long as it is open or mapped, so that nobody removes it;
* who makes room and reserves it holds the lock of the whole cache for that moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Collection, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO

from xlm_lightning.atomic import TEMPORARY_PREFIX
from xlm_lightning.errors import UserError

GB = 10**9
POLL_SECONDS = 0.1  # while another process fetches the same file
_LOCK = ".lock"
_REMOVABLE = (".bin", ".npy")  # shards, their documents, and partial files of both


class NoRoomError(Exception):
    """All of the cache is in use."""


class ShardCache:
    """Files below `folder`, at most `gigabytes` of them."""

    def __init__(self, folder: Path, gigabytes: float) -> None:
        """`UserError` for a folder that cannot be made, written to, or locked."""
        self.folder = folder
        self.gigabytes = gigabytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                pass
        except OSError as error:
            raise UserError(
                f"data.cache_dir={folder}: {error.strerror or error}; choose another folder"
            ) from error

    def open(self, path: Path) -> BufferedReader | None:
        """Open a file so that it stays while it is open or mapped; None when it is not there."""
        with contextlib.suppress(FileNotFoundError):
            file = path.open("rb")
            fcntl.flock(file, fcntl.LOCK_SH)
            if os.fstat(file.fileno()).st_nlink:
                os.utime(path)  # those that were opened longest ago make room first
                return file
            file.close()  # removed in between
        return None

    @contextlib.contextmanager
    def partial(self, path: Path, *, wait_until: float | None) -> Iterator[IO[bytes] | None]:
        """Hold the partial file of `path`, to be published when it is whole.

        While another process has it, wait until a moment of `time.monotonic()`, or not at all. None
        in its stead when the waiting was in vain, or for a file that may be there by now.
        """
        partial = path.with_name(TEMPORARY_PREFIX + path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with open(partial, "r+b", opener=_create) as file:
                if _lock(file, partial):
                    try:
                        yield file
                    finally:
                        _remove(file, partial)
                    return
            if wait_until is None or time.monotonic() > wait_until:
                yield None
                return
            time.sleep(POLL_SECONDS)

    def reserve(self, size: int, partial: IO[bytes], spared: Collection[Path]) -> None:
        """Give a partial file its length, once files not in use have made room for it.

        `NoRoomError` when too many are in use, or `spared`.
        """
        with self._alone():
            partial.truncate(0)
            files = list(_files_below(self.folder))
            excess = sum(status.st_size for _, status in files) + size - self.gigabytes * GB
            for path, status in sorted(files, key=lambda file: file[1].st_mtime):
                if excess <= 0:
                    break
                if path.suffix in _REMOVABLE and path not in spared and _remove_unused(path):
                    excess -= status.st_size
            if excess > 0:
                raise NoRoomError(
                    f"data.cache_gb={self.gigabytes:g} is full of shards in use; raise it, or end "
                    "another run"
                )
            partial.truncate(size)

    def publish(self, partial: IO[bytes], path: Path) -> None:
        """Give a whole file its name, while nobody counts the cache's bytes."""
        partial.flush()
        os.fsync(partial.fileno())
        with self._alone():
            Path(partial.name).replace(path)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the partial file of a failed attempt
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                yield path, status


def _create(path: str, flags: int) -> int:
    """Open a file, made where missing, as it is: another process may be writing it."""
    return os.open(path, flags | os.O_CREAT, 0o666)


def _lock(file: IO[bytes], path: Path) -> bool:
    """Lock a file exclusively, unless another process has it, or it is `path` no longer."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove(file: IO[bytes], path: Path) -> None:
    """Remove `path` if it is still the file that is locked, and was not renamed."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            path.unlink()


def _remove_unused(path: Path) -> bool:
    """Remove a file, or what a killed process left of one, unless a process holds it."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if _lock(file, path):
            path.unlink()
            return True
    return False
