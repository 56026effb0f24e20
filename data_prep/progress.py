"""How far a stage is, on stderr: a bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from xlm_lightning.atomic import TEMPORARY_PREFIX

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_LOOKS = 0.2


def note(message: str) -> None:
    """One line for the reader of stderr, above a bar if there is one."""
    tqdm.write(message, file=sys.stderr)


class Progress:
    """Advances through `total_bytes`; speed is shown in bytes of work done, which may differ.

    A compressed file has no known length of text: what is left is judged by its stored bytes, the
    speed by the bytes of text.
    """

    def __init__(self, stage: str, total_bytes: int) -> None:
        self._stage = stage
        self._total = total_bytes
        self._done = 0
        self._worked = 0
        self._start = self._last_line = time.monotonic()
        in_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=stage,
            total=total_bytes,
            unit="B",
            unit_scale=True,
            disable=not in_terminal,
            file=sys.stderr,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )

    def advance(self, done_bytes: int, worked_bytes: int) -> None:
        """`done_bytes` of the total are finished; `worked_bytes` of text were handled for it."""
        self._done += done_bytes
        self._worked += worked_bytes
        self._bar.set_postfix_str(self._speed(), refresh=False)
        self._bar.update(done_bytes)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._write_line(now)

    def close(self) -> None:
        """Leave the bar as it stands; in a log, the last word of a stage that took a while."""
        self._bar.close()
        now = time.monotonic()
        if self._bar.disable and now - self._start >= SECONDS_BETWEEN_LINES:
            self._write_line(now)

    def _speed(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        return f"{self._worked / seconds / 1e6:.1f} MB/s"

    def _write_line(self, now: float) -> None:
        share = self._done / max(self._total, 1)
        left = (now - self._start) * (1 - share) / share if share > 0 else float("inf")
        note(f"{self._stage}: {share:.0%}, {self._speed()}, {_duration(left)} left")


@contextmanager
def show_progress(stage: str, total_bytes: int) -> Iterator[Progress]:
    """A `Progress` that is closed when the block ends."""
    progress = Progress(stage, total_bytes)
    try:
        yield progress
    finally:
        progress.close()


@contextmanager
def show_growth(stage: str, folder: Path, total_bytes: int) -> Iterator[None]:
    """Show how files of `folder` grow while they are written, by whatever process, in the block.

    Files are looked for under their temporary names (`atomic.py`): the writers need not report.
    """
    left_by_others = set(folder.glob(f"{TEMPORARY_PREFIX}*"))
    ended = threading.Event()

    def watch(progress: Progress) -> None:
        largest: dict[Path, int] = {}
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            before = sum(largest.values())
            for path in set(folder.glob(f"{TEMPORARY_PREFIX}*")) - left_by_others:
                with suppress(FileNotFoundError):  # it has its name by now
                    largest[path] = path.stat().st_size
            grown = sum(largest.values()) - before
            progress.advance(grown, grown)

    with show_progress(stage, total_bytes) as progress:
        watcher = threading.Thread(target=watch, args=(progress,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
