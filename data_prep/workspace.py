"""The folder that a preparation writes into: shared by all at work, resumable, never half finished.

While it is worked on it holds `.work` (records of finished steps, locks); `manifest.json` comes
last and makes it a prepared folder. Several processes, on one machine or many, may prepare the same
folder together: those that are at it at the same time are a session.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from data_prep.claims import is_file_of, lock
from data_prep.inputs import SPLITS
from data_prep.pool import WorkerKilledError
from data_prep.progress import note
from xlm_lightning.atomic import TEMPORARY_PREFIX, write_json
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import MANIFEST_NAME

WORK_NAME = ".work"
INPUTS_NAME = "inputs.json"
LOCK_NAME = "lock"  # shared by those at work
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
CANNOT_BE_WRITTEN = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EEXIST, errno.EISDIR),  # a file stands where a folder is needed
    *(errno.ENAMETOOLONG, errno.ELOOP),
    errno.EFBIG,  # `ulimit -f`, or a file system with a largest size
)


@dataclass(frozen=True)
class Session:
    """Processes that prepare the same text with the same settings at the same time.

    A record of another session may be of other text: whoever meets it compares hashes before he
    takes it over. One of this session is believed as it is.
    """

    work: Path
    id: str
    member: str  # machine and process id of this one

    def save(self, record: Path, content: Mapping[str, Any]) -> None:
        """Write the record of a step that is done."""
        write_json(record, {**content, "session": self.id, "member": self.member})

    def load(self, record: Path) -> dict[str, Any] | None:
        """The record of a step that was done, or looked at and found done, in this session."""
        content = read_record(record)
        return content if content is not None and content["session"] == self.id else None


def read_record(record: Path) -> dict[str, Any] | None:
    """A record, of whatever session; None where there is none."""
    try:
        content: dict[str, Any] = json.loads(record.read_bytes())
    except FileNotFoundError:
        return None
    return content


@contextmanager
def workspace(out: Path, prepared: Mapping[str, object]) -> Iterator[Session]:
    """Be one of those who prepare `out`; raises `UserError` if they do it otherwise.

    `prepared` holds text and settings under the names of their keys. The last one to leave a
    finished folder removes `.work`. A `UserError` leaves nothing behind, unless others are at work
    or some text has two finished shards already: that is work worth keeping. Crashes and kills
    leave what is needed to go on.
    """
    check_folder(out)
    work = out / WORK_NAME
    record = work / "session.json"
    wanted = json.loads(json.dumps(prepared))

    def begin(found: bool) -> None:
        write_json(record, {"id": uuid.uuid4().hex, "prepared": wanted, "found": found})

    with _entered(work, begin) as (held, _):
        begun = json.loads(record.read_bytes())
        session = _joined(out, work, begun, wanted)
        try:
            yield session
        except UserError as error:
            if not lock(held, fcntl.LOCK_EX | fcntl.LOCK_NB):
                raise  # others are at work
            if isinstance(error, WorkerKilledError) or any(work.glob("*/*-00001.json")):
                note(f"finished shards are kept in {out}: the next run goes on from there")
            else:
                _discard(out, remove_folder=not begun["found"])
            raise
    remove_work(out)


def remove_work(out: Path) -> None:
    """Remove `.work` and what killed processes left, unless somebody is still at work.

    The folder must be finished.
    """
    work = out / WORK_NAME
    if not work.is_dir() or not os.access(work, os.W_OK):
        return
    with _entered(work) as (_, alone):
        if alone:
            for partial in out.rglob(f"{TEMPORARY_PREFIX}*"):
                partial.unlink(missing_ok=True)
            shutil.rmtree(work, ignore_errors=True)
    if alone:  # where NFS has kept the open lock file under another name
        with suppress(OSError):
            work.rmdir()


@contextmanager
def _entered(
    work: Path, begin: Callable[[bool], None] | None = None
) -> Iterator[tuple[IO[bytes], bool]]:
    """The lock file of `work`, locked, and whether nobody else had it locked.

    Who is alone keeps others out, unless there is something to `begin`, which they then join; it is
    told whether the folder around `work` was found. One that others have made, and removed since,
    was not.
    """
    path = work / LOCK_NAME
    found = True
    while True:
        try:
            with suppress(FileExistsError):
                work.parent.mkdir(parents=True)
                found = False
            with suppress(FileExistsError):
                work.mkdir()
            file = path.open("ab")
        except FileNotFoundError:  # the last one to leave has removed the folder
            continue
        with file as held:
            alone = lock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if alone and begin is not None and is_file_of(path, held):
                begin(found)
            if not alone or begin is not None:
                lock(held, fcntl.LOCK_SH)
            if is_file_of(path, held):
                yield held, alone
                return


def _joined(
    out: Path, work: Path, begun: Mapping[str, Any], wanted: Mapping[str, object]
) -> Session:
    """The session, if it is of the same work; another process may have begun it."""
    there = begun["prepared"]
    for key in [*wanted, *there]:
        old, new = there.get(key, "nothing"), wanted.get(key, "nothing")
        if old != new:
            raise UserError(
                f"another process is preparing {out} with {key}={old}, not {new}; "
                "wait for it to end, or give another out="
            )
    return Session(work, begun["id"], f"{platform.node()}:{os.getpid()}")


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
        if error.errno in NO_LOCKS:
            raise UserError(
                f"the file system of {out} does not lock files ({error.strerror}); mount it with "
                "locks or name a folder on another one"
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
        raise UserError(f"out={out}: {there} may not be written; name another")
    others = out.is_dir() and any(path.name != WORK_NAME for path in out.iterdir())
    if others and not ((out / WORK_NAME).is_dir() or (out / MANIFEST_NAME).is_file()):
        raise UserError(f"out={out} holds other files; name a new or an empty folder")


def _discard(out: Path, *, remove_folder: bool) -> None:
    for name in SPLITS:
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("codes", "vocab", INPUTS_NAME):
        (out / name).unlink(missing_ok=True)
    if remove_folder:
        # At once: who comes between the end of `.work` and that of the folder would take it for one
        # that the user has made, and leave it.
        gone = out.with_name(f"{TEMPORARY_PREFIX}{out.name}-{uuid.uuid4().hex}")
        with suppress(OSError):
            out.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            return
    shutil.rmtree(out / WORK_NAME, ignore_errors=True)
    if remove_folder:
        with suppress(OSError):
            out.rmdir()
