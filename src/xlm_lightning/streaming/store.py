"""Files of an object store, read through fsspec: one attempt at a time, none of them for ever.

Account and endpoint are the business of fsspec and of the store's own library (environment, files
of `aws`, `gcloud` and `hf`): nothing of the kind passes through here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

from xlm_lightning.errors import UserError

PIECE_BYTES = 4 * 2**20  # of one request, and what arrives between two looks at the clock
STALL_SECONDS = 60.0  # without a piece, after which an attempt is given up
_PACKAGES = {"s3": "s3", "gs": "gcs"}  # scheme -> our extra that brings its library
_STREAMED = {"hf", "http", "https"}  # by one request a file; the others by one a piece
# Names of errors, and of their bases: the libraries they come from may not be installed.
_NOT_THERE = {"FileNotFoundError", "RepositoryNotFoundError", "EntryNotFoundError"}
_DENIED = {
    *("PermissionError", "ValueError"),  # the latter for names that cannot be
    *("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"),  # botocore
    "DefaultCredentialsError",  # google.auth
}


class RefusedError(Exception):
    """The store's answer is no, and will be no the next time."""


class Store:
    """The files below one address, such as `s3://bucket/folder`."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._scheme = address.partition("://")[0]
        self._served = False  # whether it has given anything yet
        # By process, for connections do not survive a fork. Those of the parent are kept all the
        # same: a child that dropped them would have s3fs close them, in a thread that it lacks.
        self._filesystems: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the connections behind."""
        return {**self.__dict__, "_filesystems": {}}

    def name(self, file: str) -> str:
        """Whole address of a file, for messages."""
        return f"{self.address}/{file}"

    def pieces(self, file: str) -> Iterator[bytes]:
        """Yield the content of `file`.

        Raises `RefusedError` where a second attempt is no use, `UserError` for a missing package,
        and whatever the store's library raises for all else; `TimeoutError` when it falls silent.
        """
        # A library may hang where no timeout of its own reaches, so another thread waits for it,
        # and ends by itself once it has been given up.
        arrived, given_up = SimpleQueue[bytes | Exception](), threading.Event()
        reading = threading.Thread(target=self._read, args=(file, arrived, given_up), daemon=True)
        reading.start()
        try:
            while piece := arrived.get(timeout=STALL_SECONDS):
                if isinstance(piece, Exception):
                    raise piece
                self._served = True
                yield piece
        except Empty:
            raise TimeoutError(f"nothing came for {STALL_SECONDS:g} s") from None
        except UserError:
            raise
        except Exception as error:
            if self._is_refusal(error):
                raise RefusedError(reason(error)) from error
            raise
        finally:
            given_up.set()

    def _read(
        self, file: str, arrived: SimpleQueue[bytes | Exception], given_up: threading.Event
    ) -> None:
        try:
            with self._filesystem().open(self.name(file), **self._way_to_read()) as source:
                while not given_up.is_set() and (piece := source.read(PIECE_BYTES)):
                    arrived.put(piece)
            arrived.put(b"")
        except Exception as error:
            arrived.put(error)

    def _filesystem(self) -> Any:
        process = os.getpid()
        if process not in self._filesystems:
            self._filesystems[process] = self._connect()
        return self._filesystems[process]

    def _connect(self) -> Any:
        import fsspec  # here, so that the door can ask `is_remote` without it

        if self._scheme == "gs":  # gcsfs would ask for the bucket's kind by gRPC: not for forks
            os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        try:
            files = fsspec.filesystem(self._scheme, skip_instance_cache=True)
        except ImportError as error:
            extra = _PACKAGES.get(self._scheme)
            if extra is None:
                raise
            raise UserError(
                f"{self.address}: reading {self._scheme}:// takes another package; "
                f'pip install "xlm-lightning[{extra}]"'
            ) from error
        if self._scheme == "s3":
            files.retries = 1  # s3fs retries in silence what botocore has already retried
        if self._scheme == "hf":
            files.isdir = lambda path: False  # it would list the whole folder at each file
        return files

    def _way_to_read(self) -> dict[str, Any]:
        if self._scheme not in _STREAMED:
            return {"block_size": PIECE_BYTES, "cache_type": "none"}
        if self._scheme == "hf":
            return {"block_size": 0}
        import aiohttp

        # A size, of whatever number, keeps fsspec from asking for it first: it would call every
        # failure to answer that a missing file. Without a limit: five minutes for a file.
        return {"block_size": 0, "size": 1, "timeout": aiohttp.ClientTimeout(total=None)}

    def _is_refusal(self, error: Exception) -> bool:
        """A store that has served before may refuse for a while: tokens expire, clocks differ."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & _NOT_THERE:
            return True
        statuses = {str(vars(error).get(name)) for name in ("status", "code")}  # aiohttp, gcsfs
        forbidden = str(error).startswith("Forbidden: ")  # gcsfs
        return not self._served and bool(kinds & _DENIED or statuses & {"401", "403"} or forbidden)


def is_remote(address: str) -> bool:
    """Whether `data.dir` names an object store and not a folder."""
    return "://" in address


def reason(error: BaseException) -> str:
    """One line about an error. The stores' libraries share no base class but `Exception`."""
    told = str(error).strip().partition("\n")[0].rstrip(".")
    if type(error).__module__.startswith("xlm_lightning"):
        return told
    return f"{type(error).__name__}: {told}".removesuffix(": ")
