"""A large file over HTTP: resumed where it broke off, checked, whole under its name or absent.

The part that has arrived stands in `NAME.part`, and in `NAME.part.json` which version of the file
it is of (ETag, Last-Modified, length): a server whose file changed in between sends it anew.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from data_prep.progress import Progress, note, show_progress
from xlm_lightning import __version__
from xlm_lightning.atomic import write_json
from xlm_lightning.errors import UserError

CHUNK_BYTES = 1 << 20
MAX_LISTING_BYTES = 1 << 24
LONGEST_WAIT_SECONDS = 120.0
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How often and how long to try; the count starts again whenever bytes have arrived."""

    attempts: int = 8
    first_wait_seconds: float = 1.0  # doubled each time
    timeout_seconds: float = 60.0  # without a byte


@dataclass(frozen=True)
class Checksum:
    """What a file's hash must be."""

    algorithm: str  # as hashlib calls it
    published: str  # hexadecimal digits

    def complaint(self, path: Path) -> str:
        """What is wrong with a file, empty for the right one."""
        with path.open("rb") as file:
            found = hashlib.file_digest(file, self.algorithm).hexdigest()
        if found == self.published:
            return ""
        return f"has the {self.algorithm} {found}, published is {self.published}"


class _TryAgainError(Exception):
    """The transfer broke off in a way that may pass; `wait_seconds` if the server asked for it."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def fetch(url: str, target: Path, *, checksum: Checksum | None, patience: Patience) -> None:
    """Download `url` to `target`, unless it is there already (it gets its name when checked).

    Raises `UserError` for an address that does not exist, a server that keeps failing, and a file
    whose hash is not the published `checksum`.
    """
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _Partial(target)
    for last in (False, True):
        _transfer(url, partial, patience)
        wrong = "" if checksum is None else checksum.complaint(partial.path)
        if not wrong:
            partial.publish()
            return
        partial.discard()  # perhaps damaged on the way, or joined from two versions: once more
        if not last:
            note(f"{url}: the checksum is wrong; downloading it once more")
    raise UserError(f"{url} {wrong}; try another date or mirror")


def fetch_text(url: str, patience: Patience) -> str:
    """A short text file, such as a list of checksums."""
    waits = _Waits(patience)
    while True:
        try:
            with _open(url, {}, patience) as response:
                content = _read(response, MAX_LISTING_BYTES)
                total = _version(response)["total"]
            if total is not None and len(content) < min(total, MAX_LISTING_BYTES):
                raise _TryAgainError(f"broke off after {len(content)} of {total} bytes")
            return content.decode("utf-8", errors="replace")
        except _TryAgainError as error:
            waits.pause(url, error)


class _Partial:
    """The bytes that have arrived, and which version of the remote file they are of."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(f"{target.name}.part")
        self._record = target.with_name(f"{target.name}.part.json")
        self.version: dict[str, Any] = {}
        if self.path.is_file() and self._record.is_file():
            self.version = json.loads(self._record.read_bytes())

    @property
    def size(self) -> int:
        """Bytes of the known version that are here; 0 when they could not be continued."""
        continuable = self.version.get("etag") or self.version.get("last_modified")
        return self.path.stat().st_size if continuable and self.path.is_file() else 0

    @property
    def total(self) -> int | None:
        total: int | None = self.version.get("total")
        return total

    def open(self, version: dict[str, Any], *, append: bool) -> IO[bytes]:
        if not append:
            self.path.unlink(missing_ok=True)
            write_json(self._record, version)
            self.version = version
        return self.path.open("ab")

    def publish(self) -> None:
        self.path.replace(self._target)
        self._record.unlink()

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        self.version = {}


class _Waits:
    """The pauses between attempts, each twice as long as the one before."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0

    def restart(self) -> None:
        self._failures = 0

    def pause(self, url: str, error: _TryAgainError) -> None:
        self._failures += 1
        if self._failures >= self._patience.attempts:
            raise UserError(
                f"{url}: {error} ({self._failures} attempts); run the same command again later: "
                "what has arrived is kept"
            ) from error
        seconds = self._patience.first_wait_seconds * 2 ** (self._failures - 1)
        seconds = min(max(seconds, error.wait_seconds), LONGEST_WAIT_SECONDS)
        note(f"{url}: {error}; trying again in {seconds:.0f} s")
        time.sleep(seconds)


def _transfer(url: str, partial: _Partial, patience: Patience) -> None:
    """Bring the partial file to its full length."""
    waits = _Waits(patience)
    while not (partial.size and partial.size == partial.total):
        size_before = partial.size
        try:
            _continue(url, partial, patience)
            return
        except _TryAgainError as error:
            if partial.size > size_before:
                waits.restart()
            waits.pause(url, error)


def _continue(url: str, partial: _Partial, patience: Patience) -> None:
    """One request, for what is missing; raises `_TryAgainError` when less arrived."""
    headers = {}
    if partial.size:
        validator = partial.version["etag"] or partial.version["last_modified"]
        headers = {"Range": f"bytes={partial.size}-", "If-Range": validator}
    with _open(url, headers, patience) as response:
        version = _version(response)
        append = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if append and version != partial.version:
            partial.discard()
            raise _TryAgainError("the file changed on the server")
        with partial.open(version, append=append) as file:
            total = version["total"] or 0
            name = url.rsplit("/", 1)[-1]
            with show_progress(name, total) as progress:
                progress.advance(file.tell(), 0)
                _copy(response, file, progress)
            arrived = file.tell()
            file.flush()
            os.fsync(file.fileno())
    if version["total"] is not None and arrived != version["total"]:
        raise _TryAgainError(f"broke off after {arrived} of {version['total']} bytes")


def _copy(response: http.client.HTTPResponse, file: IO[bytes], progress: Progress) -> None:
    while chunk := _read(response, CHUNK_BYTES):
        file.write(chunk)
        progress.advance(len(chunk), len(chunk))


def _open(url: str, headers: dict[str, str], patience: Patience) -> http.client.HTTPResponse:
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url} is no http or https address")
    request = urllib.request.Request(
        url,
        headers={
            "User-Agent": f"xlm-lightning/{__version__}",
            "Accept-Encoding": "identity",  # the stored bytes are what is resumed and hashed
            **headers,
        },
    )
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            request, timeout=patience.timeout_seconds
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in TRY_AGAIN:
            asked = error.headers.get("Retry-After", "")
            wait = float(asked) if asked.isdigit() else 0.0
            raise _TryAgainError(f"HTTP {error.code}", wait) from error
        raise UserError(
            f"{url}: HTTP {error.code} {error.reason}; check the language, the year or date, and "
            "the base address"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgainError(f"no connection ({error})") from error
    return response


def _read(response: http.client.HTTPResponse, size: int) -> bytes:
    try:
        return response.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgainError(f"the connection broke off ({error})") from error


def _version(response: http.client.HTTPResponse) -> dict[str, Any]:
    """What identifies the version of the file that a response is of."""
    etag = response.headers.get("ETag", "")
    length = response.headers.get("Content-Length")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
        length = span[1] if span else None
    return {
        "etag": "" if etag.startswith("W/") else etag,  # a weak one does not vouch for the bytes
        "last_modified": response.headers.get("Last-Modified", ""),
        "total": int(length) if length is not None else None,
    }
