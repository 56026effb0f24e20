"""Send signals to processes of trainings; every run must save and leave within 30 seconds.

    python tests/chaos/signals.py

By one process, by two of Lightning's, by two of torchrun's; to each rank, to all, to the agent.
Exit code 1 when one does not leave in time, leaves without a whole checkpoint of its last step,
leaves a process behind, or has another exit code than 128 + n (torchrun's own is 1).
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from chaos.kills import MARK, last_step, marked
from commands import SCRIPTS, environment, run
from crumbs import crumbs_of
from training import WORDS, summary

from xlm_lightning.checkpoint import newest_whole, read_whole
from xlm_lightning.launch import NO_SHARED_STORE

LIMIT_SECONDS = 30.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@dataclass(frozen=True)
class Case:
    """Who starts the processes, and which of them gets a signal: an index by age, or all."""

    launcher: str
    target: int | None

    @property
    def told(self) -> str:
        who = "all" if self.target is None else "the agent"
        if self.target is not None and (self.launcher != "torchrun" or self.target):
            who = f"rank {self.target - (self.launcher == 'torchrun')}"
        return f"{self.launcher}, {who}"


CASES = (
    Case("one process", 0),
    Case("lightning", 0),
    Case("lightning", 1),
    Case("lightning", None),
    Case("torchrun", 0),
    Case("torchrun", 1),
    Case("torchrun", 2),
    Case("torchrun", None),
)


def start(case: Case, words: Sequence[str], mark: str) -> subprocess.Popen[str]:
    command = [str(SCRIPTS / "xlm-train"), *words]
    if case.launcher == "torchrun":
        command = [sys.executable, *TORCHRUN, *command, "trainer.devices=auto"]
    else:
        command.append(f"trainer.devices={1 if case.launcher == 'one process' else 2}")
    return subprocess.Popen(
        command,
        env=environment() | {MARK: mark, NO_SHARED_STORE: "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def by_age(mark: str) -> list[int]:
    """The processes of a run that train or start those that do, the oldest first."""
    names = (b"xlm-train", b"torch.distributed.run")
    pids = [pid for pid in marked(mark) if any(n in command_of(pid) for n in names)]
    return sorted(pids, key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().split()[21]))


def command_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def trial(
    case: Case, number: signal.Signals, words: Sequence[str], folder: Path, steps: int
) -> tuple[float, str]:
    """Return the seconds until the last process had left, and what was wrong (or nothing)."""
    mark = f"signals-{os.getpid()}-{time.monotonic_ns()}"
    process = start(case, [*words, f"run.dir={folder}"], mark)
    while last_step(folder) < steps:
        if process.poll() is not None:
            return 0.0, f"ended before the signal: {process.communicate()[1][-500:]}"
        time.sleep(0.02)
    ranks = by_age(mark)
    for pid in ranks if case.target is None else [ranks[case.target]]:
        os.kill(pid, number)
    began = time.monotonic()
    try:
        stderr = process.communicate(timeout=LIMIT_SECONDS)[1]
        wrong = ""
    except subprocess.TimeoutExpired:
        wrong, stderr = f"still there after {LIMIT_SECONDS:.0f} s", ""
    while not wrong and list(marked(mark)):
        if time.monotonic() - began > LIMIT_SECONDS:
            wrong = "processes stayed behind"
        time.sleep(0.1)
    seconds = time.monotonic() - began
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    return seconds, wrong or _what_is_wrong(case, number, process.returncode, stderr, folder)


def _what_is_wrong(case: Case, number: signal.Signals, code: int, stderr: str, folder: Path) -> str:
    allowed = {128 + number} if case.launcher != "torchrun" else {1, 128 + number, -number}
    if code not in allowed:
        return f"exit code {code}: {stderr[-300:]}"
    if not (folder / "summary.json").is_file():
        return f"it left without a summary: {stderr[-300:]}"
    with redirect_stderr(StringIO()):
        checkpoint = newest_whole(folder / "checkpoints")
    saved = read_whole(checkpoint)["global_step"]
    if summary(folder)["status"] != "stopped" or summary(folder)["steps"] != saved:
        return f"saved at step {saved}, the summary says {summary(folder)}"
    return ""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    failed = 0
    print(f"{'':24} {'signal':8} {'at step':>7} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        tiny = Path(scratch, "tiny")
        run("xlm-prepare", "corpus=sample_tiny", f"out={tiny}", cwd=tiny.parent).expect()
        words = [
            *WORDS,
            f"data.dir={crumbs_of(tiny)}",
            "trainer.max_steps=100000",
            "trainer.val_check_interval=100",
            "trainer.log_every_n_steps=1",
            "trainer.timeout_seconds=60",
        ]
        combinations = itertools.cycle(itertools.product(CASES, SIGNALS))
        for index, (case, number) in enumerate(itertools.islice(combinations, options.count)):
            steps = draw.randint(3, 40)
            folder = Path(scratch, f"run-{index}")
            seconds, wrong = trial(case, number, words, folder, steps)
            print(f"{case.told:24} {number.name:8} {steps:7} {seconds:8.1f}  {wrong}", flush=True)
            failed += bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
