"""The console scripts as a user runs them: in a process of their own, or inside the test's."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object on the last line of stdout."""
        parsed: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        return parsed

    def expect(self, code: int = 0) -> Outcome:
        """Return itself; a failure shows what the command said."""
        assert self.code == code, f"exit {self.code} instead of {code}\n{self.stderr[-9000:]}"
        return self


def command_lines(text: str) -> list[str]:
    """The xlm-* command lines of a Markdown page's fenced blocks that name no language."""
    blocks = re.findall(r"^```(.*?)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return _joined("\n".join(block for language, block in blocks if not language))


def examples_of(told: str) -> list[str]:
    """The command lines below `Examples` of what `--help` prints."""
    return _joined(told.partition("\nExamples\n")[2])


def _joined(text: str) -> list[str]:
    """Command lines, those that go on behind a backslash made whole."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("xlm-")]


def environment() -> dict[str, str]:
    """The test's environment without what a launcher or an earlier run has left in it."""
    dropped = ("XLM_", "SLURM_", "TORCHELASTIC_", "WANDB_")
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped) and k not in names}
    return kept | {"OMP_NUM_THREADS": "1"}


def run(command: str, *words: str, cwd: Path | None = None, timeout: float = 300) -> Outcome:
    """Run a console script to its end."""
    done = subprocess.run(
        [str(SCRIPTS / command), *words],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_on_a_terminal(command: str, *words: str, timeout: float = 300) -> Outcome:
    """Run a console script whose stderr is a terminal."""
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    with subprocess.Popen(
        [str(SCRIPTS / command), *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal that nobody writes to any more
            while part := os.read(master, 65_536):
                shown += part
        os.close(master)
        stdout, _ = process.communicate(timeout=timeout)
    return Outcome(process.returncode, stdout, shown.decode())


def run_and_signal(
    command: str,
    *words: str,
    when: Callable[[], bool],
    number: signal.Signals,
    settle_seconds: float = 0.0,
    cwd: Path | None = None,
    timeout: float = 120,
) -> Outcome:
    """Start a console script, send it a signal as soon as `when()` (and a while after), and wait
    for its end."""
    process = subprocess.Popen(
        [str(SCRIPTS / command), *words],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + timeout
        while not when():
            assert process.poll() is None, "the command ended before the signal"
            assert time.monotonic() < deadline, "the moment for the signal never came"
            time.sleep(0.01)
        time.sleep(settle_seconds)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    return Outcome(process.returncode, stdout, stderr)
