"""The folder that a preparation writes into: one writer at a time, resumable, never half finished.

While it is worked on it holds `.work` (records of finished steps, the lock); `manifest.json` comes
last and makes it a prepared folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.inputs import SPLITS
from data_prep.pool import WorkerKilledError
from data_prep.progress import note
from xlm_lightning.atomic import TEMPORARY_PREFIX
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import MANIFEST_NAME

WORK_NAME = ".work"
INPUTS_NAME = "inputs.json"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
CANNOT_BE_WRITTEN = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EEXIST, errno.EISDIR),  # a file stands where a folder is needed
    *(errno.ENAMETOOLONG, errno.ELOOP),
    errno.EFBIG,  # `ulimit -f`, or a file system with a largest size
)


@contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """The locked `.work` folder of `out`.

    A `UserError` leaves nothing behind, unless some text has two finished shards already: that is
    work worth keeping. Crashes and kills leave what is needed to go on.
    """
    check_folder(out)
    existed = out.exists()
    work = out / WORK_NAME
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is preparing {out}; wait for it to end") from None
        for partial in out.rglob(f"{TEMPORARY_PREFIX}*"):  # of a process that was killed
            partial.unlink()
        try:
            yield work
        except UserError as error:
            if isinstance(error, WorkerKilledError) or any(work.glob("*/*-00001.json")):
                note(f"finished shards are kept in {out}: the next run goes on from there")
            else:
                _discard(out, remove_folder=not existed)
            raise


@contextmanager
def naming_disk_errors(out: Path) -> Iterator[None]:
    """Turn a disk that is full, or a place that cannot be written, into a `UserError` naming it."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise UserError(
                f"no space is left for {out}; make room and run the same command again"
            ) from error
        if error.errno in CANNOT_BE_WRITTEN:
            raise UserError(
                f"{error.filename or out} cannot be written: {error.strerror}; "
                "name another folder or mend this one"
            ) from error
        raise


def remove_strangers(out: Path, known: set[str]) -> None:
    """Remove files of the splits' folders that are not `known`: left by other settings."""
    for split in SPLITS:
        folder = out / split
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            if path.relative_to(out).as_posix() not in known:
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def check_folder(out: Path) -> None:
    """Raise `UserError` unless `out` is ours, or an empty folder, or can be made."""
    there = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"out={out}: {there} is no folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"out={out}: the folder {there} cannot be written; name another")
    ours = (out / WORK_NAME).is_dir() or (out / MANIFEST_NAME).is_file()
    if out.is_dir() and not ours and any(out.iterdir()):
        raise UserError(f"out={out} holds other files; name a new or an empty folder")


def _discard(out: Path, *, remove_folder: bool) -> None:
    for name in (*SPLITS, WORK_NAME):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("codes", "vocab", INPUTS_NAME):
        (out / name).unlink(missing_ok=True)
    if remove_folder:
        out.rmdir()
