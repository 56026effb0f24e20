"""Checkpoints written in the background, whole or not at all, each with its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from xlm_lightning.atomic import atomic_write, write_text
from xlm_lightning.checkpoint import sha256_file
from xlm_lightning.errors import RunFailed

_AT_MOST = 2  # copies in memory: the one being written, and one that waits


class CheckpointWriter(TorchCheckpointIO):
    """Lightning's writer, beside its target instead of through the system's temporary folder.

    Training waits only until the tensors are copied; one thread writes and removes files, in the
    order in which it was asked. The hash comes before its file, so that a file without a hash, or
    with another one, is never the fault of a kill: the renaming of the file completes both.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: list[Future[None]] = []

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Copy `checkpoint` and write it to `path` by and by; see `wait`."""
        self._wait_for_all_but(_AT_MOST - 1)
        copy = _copied(checkpoint, {})
        self.then(lambda: _write(copy, Path(path)))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file and its hash, after all that was asked for before."""
        self.then(lambda: remove(Path(path)))

    def then(self, function: Callable[[], None]) -> None:
        """Call `function` in the thread after all that was asked for before, if that went well."""
        before = self._pending[-1] if self._pending else None

        def in_turn() -> None:
            if before is not None:
                before.result()
            function()

        self._pending.append(self._thread.submit(in_turn))

    def wait(self) -> None:
        """Return when all files are written; raise what went wrong."""
        self._wait_for_all_but(0)

    def check(self) -> None:
        """Raise what has gone wrong by now."""
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()

    def teardown(self) -> None:
        self.wait()

    def _wait_for_all_but(self, count: int) -> None:
        self.check()
        while len(self._pending) > count:
            self._pending.pop(0).result()


def remove(path: Path) -> None:
    """Remove a checkpoint and its hash."""
    path.unlink(missing_ok=True)
    sha256_file(path).unlink(missing_ok=True)


class _Hashed:
    """A file that hashes what it is given, and keeps the error that torch hides."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(checkpoint: Mapping[str, Any], path: Path) -> None:
    file = None
    try:
        with atomic_write(path) as opened:
            file = _Hashed(opened)
            torch.save(checkpoint, file)  # type: ignore[arg-type]  # it asks for these two methods
            write_text(sha256_file(path), f"{file.sha256.hexdigest()}  {path.name}\n")
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else file and file.error
        if not cause:
            raise
        raise RunFailed(
            f"{path} could not be written: {cause.strerror}; make room, and go on from the "
            "checkpoint before"
        ) from error


def _copied(value: Any, copies: dict[Any, Tensor]) -> Any:
    """Copy containers, and tensors to the CPU; what shares its memory goes on sharing it."""
    if isinstance(value, Tensor):
        memory = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if memory not in copies:
            on_cpu = value.detach().cpu()
            copies[memory] = on_cpu.clone() if value.device.type == "cpu" else on_cpu
        return copies[memory]
    if isinstance(value, Mapping):
        return {key: _copied(item, copies) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, copies) for item in value)
    return value
