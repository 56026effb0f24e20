"""The processes that a command has started, as Linux lists them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """The children of a process: its workers, and the resource tracker of multiprocessing."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def workers(pid: int) -> list[int]:
    """Its workers alone; none when it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [
            child
            for child in children(pid)
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    return []


def has_ended(pid: int) -> bool:
    """Whether a process that was told to end has done so; it may take a moment."""
    for _ in range(100):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return True
        if "State:\tZ" in status:
            return True
        time.sleep(0.1)
    return False


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something that happens while a process runs."""
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline
        time.sleep(0.01)
