"""What a run of wandb has on disk, read back: wandb 0.26 and later have no reader.

The file is LevelDB's log: after 7 bytes of wandb's own, blocks of 32,768 bytes with records of a
header (checksum 4 bytes, length 2, kind 1) and a part of a message of `wandb_internal.proto`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILE_HEADER, _HEADER, _BLOCK = 7, 7, 32_768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_records(path: Path) -> Iterator[Any]:
    """Yield the messages (`Record`) of a file, up to the first that a kill has torn."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    for message, _ in _messages(path.read_bytes()):
        yield Record.FromString(message)


def mend(folder: Path, run_id: str) -> None:
    """Cut off what a kill has torn: after it `wandb sync` would send no later start of the run."""
    for file in folder.glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"):
        data = file.read_bytes()
        end = max((end for _, end in _messages(data)), default=0)
        if end == 0:
            shutil.rmtree(file.parent)  # nothing was written
        elif end < len(data):
            os.truncate(file, end)


def _messages(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole message, and where it ends."""
    place, parts = _FILE_HEADER, b""
    while place + _HEADER <= len(data):
        room = _BLOCK - place % _BLOCK
        kind = data[place + 6] if room >= _HEADER else 0
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):  # the rest of a block is left empty
            place += room
            continue
        end = place + _HEADER + int.from_bytes(data[place + 4 : place + 6], "little")
        if end > len(data):
            return
        parts = (parts if kind in (_MIDDLE, _LAST) else b"") + data[place + _HEADER : end]
        if kind in (_FULL, _LAST):
            yield parts, end
        place = end


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what was logged, a row a step; wandb's own keys begin with `_`."""
    for record in read_records(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}


def last_step(folder: Path, run_id: str) -> int:
    """Return the last step in the files of a run, of online starts too; -1 where there is none."""
    files = folder.glob(f"*run-*-{run_id}/run-{run_id}.wandb")
    return max((row["_step"] for file in files for row in read_rows(file)), default=-1)
