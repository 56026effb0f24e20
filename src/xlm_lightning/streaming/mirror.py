"""A prepared folder of an object store, as a local one whose shards come when they are needed.

What a store gives is believed only as far as the manifest's hashes go: a file appears in the mirror
when its content is the right one. A store that fails makes training wait, and says so.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Collection
from io import BufferedReader
from pathlib import Path
from typing import IO, TypeVar

from xlm_lightning.atomic import atomic_write
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import MANIFEST_NAME, Manifest
from xlm_lightning.streaming.shard_cache import GB, NoRoomError, ShardCache
from xlm_lightning.streaming.store import RefusedError, Store, is_remote, reason

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0  # between two attempts
WRONG_CONTENTS = 3  # attempts, after which the object itself is taken to be damaged
_Value = TypeVar("_Value")


class WrongContentError(Exception):
    """What came is not what the manifest describes."""


class Mirror:
    """The local copy of a remote prepared folder, without the shards nobody has asked for yet."""

    def __init__(
        self, address: str, cache_folder: Path, cache_gb: float, retry_minutes: float
    ) -> None:
        """Fetch manifest, codes and vocabulary of the prepared folder at `address`.

        `retry_minutes`: how long attempts at one file may fail before the run ends. Raises
        `UserError` when there is no such folder, no access, or no answer by then.
        """
        self.store = Store(address)
        self.needed = frozenset[str]()  # shards that are read now, and make no room for others
        self._cache = ShardCache(cache_folder.expanduser(), cache_gb)
        self._retry_minutes = retry_minutes
        content = self._patiently(
            MANIFEST_NAME, lambda: b"".join(self.store.pieces(MANIFEST_NAME)), self._deadline()
        )
        self.manifest = Manifest.parse(content, self.store.name(MANIFEST_NAME))
        self._known = _known_files(self.manifest)
        self.folder = self._cache.folder / hashlib.sha256(content).hexdigest()[:16]
        if not (self.folder / MANIFEST_NAME).is_file():
            with atomic_write(self.folder / MANIFEST_NAME) as file:
                file.write(content)
        for name in ("codes", "vocab"):
            self.fetch(name)

    def __getstate__(self) -> dict[str, object]:
        """Another process has needs of its own."""
        return {**self.__dict__, "needed": frozenset()}

    def fetch_at_start(self, names: Collection[str], later_bytes: int = 0) -> None:
        """Fetch some files; `UserError` unless `later_bytes` more will fit into the cache."""
        needed = later_bytes + sum(self._known[name][0] for name in names)
        needed += sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
        if needed > self._cache.gigabytes * GB:
            raise UserError(
                f"data.cache_gb={self._cache.gigabytes:g}: {needed / GB:.2g} GB of "
                f"{self.store.address} are in use at once (what is scored, and windows of training "
                f"text); say data.cache_gb={1.5 * needed / GB:.2g} or more"
            )
        for name in names:
            self.fetch(name)

    def open(self, name: str) -> BufferedReader:
        """Open a shard, fetched if need be; it stays as long as it is open or mapped."""
        while True:
            self.fetch(name)
            if (file := self._cache.open(self.folder / name)) is not None:
                return file

    def has(self, name: str) -> bool:
        """Whether a file is there, whole."""
        try:
            size = (self.folder / name).stat().st_size
        except FileNotFoundError:
            return False
        return size == self._known[name][0] or not name.endswith(".bin")

    def fetch(self, name: str) -> None:
        """Bring a file here unless it is, once for all processes of the machine."""
        deadline = self._deadline()
        while not self.has(name):
            if time.monotonic() > deadline:
                raise self._too_long(name, "is still being fetched")
            self._fetch(name, self.needed, deadline, wait_until=deadline)

    def fetch_ahead(self, name: str, spared: frozenset[str]) -> None:
        """The same for a file that is not needed yet, unless another process is at it.

        Raises `NoRoomError` rather than remove one of `spared`.
        """
        self._fetch(name, spared, self._deadline(), wait_until=None)

    def _fetch(
        self, name: str, spared: frozenset[str], deadline: float, wait_until: float | None
    ) -> None:
        with self._cache.partial(self.folder / name, wait_until=wait_until) as partial:
            if partial is None or self.has(name):
                return

            def attempt() -> None:
                self._download(name, partial, spared)

            self._patiently(name, attempt, deadline, waits_for_room=wait_until is not None)

    def _deadline(self) -> float:
        return time.monotonic() + self._retry_minutes * 60

    def _patiently(
        self,
        name: str,
        attempt: Callable[[], _Value],
        deadline: float,
        *,
        waits_for_room: bool = True,
    ) -> _Value:
        """Try until it works, more and more rarely; say each time what failed."""
        wait, wrong = FIRST_WAIT_SECONDS, 0
        address = self.store.name(name)
        while True:
            try:
                return attempt()
            except UserError:
                raise
            except RefusedError as error:
                raise UserError(
                    f"data.dir={self.store.address}: no {name} from there ({error}); check the "
                    "address, whether the upload is whole, and your access"
                ) from error
            except Exception as error:
                if isinstance(error, NoRoomError) and not waits_for_room:
                    raise
                wrong += isinstance(error, WrongContentError)
                if wrong == WRONG_CONTENTS:
                    raise UserError(
                        f"{address}: {reason(error)}, {wrong} times; upload it again"
                    ) from error
                if time.monotonic() + wait > deadline:
                    raise self._too_long(name, reason(error)) from error
                note = f"{address}: {reason(error)}; trying again in {wait:g} s\n"
                sys.stderr.write(note)  # in one piece: print would let another thread in between
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _too_long(self, name: str, told: str) -> UserError:
        return UserError(
            f"{self.store.name(name)}: {told}, for data.retry_minutes={self._retry_minutes:g}; "
            "training goes on from its last checkpoint when it is started again with run.dir=DIR"
        )

    def _download(self, name: str, partial: IO[bytes], spared: frozenset[str]) -> None:
        """One attempt, into the partial file that this process holds."""
        size, sha256 = self._known[name]
        self._cache.reserve(size, partial, {self.folder / other for other in spared})
        digest = hashlib.sha256()
        partial.seek(0)
        for piece in self.store.pieces(name):
            digest.update(piece)
            partial.write(piece)
            if name.endswith(".bin") and partial.tell() > size:
                break
        if digest.hexdigest() != sha256:
            raise WrongContentError(
                f"{partial.tell()} bytes came, and not those that {MANIFEST_NAME} describes"
            )
        partial.truncate()
        self._cache.publish(partial, self.folder / name)


def mirror_of(
    address: str, cache_folder: Path, cache_gb: float, retry_minutes: float
) -> Mirror | None:
    """See `Mirror`; None for the folder of this machine that `address` may also be."""
    return Mirror(address, cache_folder, cache_gb, retry_minutes) if is_remote(address) else None


def _known_files(manifest: Manifest) -> dict[str, tuple[int, str]]:
    """Bytes (0: unknown) and sha256 of all files that a manifest names."""
    files = {"codes": (0, manifest.codes_sha256), "vocab": (0, manifest.vocab_sha256)}
    for shard in manifest.shards():
        files[shard.name] = (shard.bytes, shard.sha256)
        # A header of 128 bytes and a number of 8 for each document.
        files[shard.docs_name] = (128 + 8 * shard.documents, shard.docs_sha256)
    return files
