"""Kill trainings with SIGKILL at random moments, and compare their ends with an undisturbed one.

    python tests/chaos/kills.py --kills 200

Exit code 0: as many effective kills as asked for, and every end is that of the undisturbed run, to
the bit. 1: an end differs, a resume fails, too much work is done again, or processes stay behind.
2: too few effective kills, which prove nothing. 3: two undisturbed runs differ, or the code was
changed meanwhile, so that neither equality nor difference would mean anything.

A kill is effective when there was a whole checkpoint and work was left. It is inside a write when a
temporary file of the writer lies in the folder afterwards.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from commands import SCRIPTS, run
from crumbs import crumbs_of
from training import MEASURED, WORDS

import xlm_lightning
import xlm_lightning.train as _imported_before_the_forks  # noqa: F401
from xlm_lightning import cli

STEPS, EVERY = 60, 5
# A kill costs an interval and a step at most. Inside a write it costs what was done meanwhile, too:
# at most another interval, since a save waits for the write before it.
MOST_REDONE, MOST_REDONE_INSIDE_A_WRITE = EVERY + 1, 2 * EVERY
MARK = "XLM_CHAOS_MARK"  # in the environment of every process of a run
PATIENCE_SECONDS = 120.0
Target = Literal["all", "rank 0", "rank 1"]


@dataclass
class Tally:
    """What the kills came to."""

    kills: int = 0
    effective: int = 0
    inside_a_write: int = 0
    redone: list[int] = field(default_factory=list)  # steps, for each effective kill
    runs: int = 0
    faults: list[str] = field(default_factory=list)

    def row(self, name: str, seconds: float) -> str:
        share = self.inside_a_write / max(self.effective, 1)
        return (
            f"{name:34} {self.runs:5} {self.kills:6} {self.effective:10} {share:13.0%} "
            f"{max(self.redone, default=0):12} {len(self.faults):7} {seconds:8.0f}"
        )


HEADER = (
    f"{'':34} {'runs':>5} {'kills':>6} {'effective':>10} {'inside a write':>13} "
    f"{'steps redone':>12} {'faults':>7} {'seconds':>8}"
)


class Training:
    """One start of `xlm-train` in a process of its own, forked when all is imported."""

    def __init__(self, words: Sequence[str], folder: Path, sabotage: Callable[[], None]) -> None:
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.log = folder.with_name(f"{folder.name}.{self.mark}.log")
        self.log.touch()
        self.metrics = folder / "metrics.csv"
        self._before = _inode(self.metrics)
        self.pid = os.fork()
        if self.pid == 0:
            self._run(words, folder, sabotage)
        self.code: int | None = None

    def _run(self, words: Sequence[str], folder: Path, sabotage: Callable[[], None]) -> None:
        code = 1
        try:
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ[MARK] = self.mark
            sys.argv = [str(SCRIPTS / "xlm-train"), *words, f"run.dir={folder}"]
            sabotage()
            cli.train()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def has_logged(self) -> bool:
        """Whether this start has logged a step: with its first one the file is written anew."""
        return _inode(self.metrics) not in (None, self._before)

    def ended(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def processes(self) -> list[int]:
        """All that are alive: the first one, and those that it has started."""
        first = [] if self.ended() else [self.pid]
        return first + [pid for pid in marked(self.mark) if pid != self.pid]


def _inode(file: Path) -> int | None:
    return file.stat().st_ino if file.is_file() else None


def marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                alive = b"State:\tZ" not in (folder / "status").read_bytes()
                if alive and wanted in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def last_step(folder: Path) -> int:
    """The last step that was logged; one is logged at every step."""
    try:
        rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    except FileNotFoundError:
        return 0
    return max((int(row.split(",")[0]) for row in rows if re.match(r"\d+,", row)), default=0)


def everything(folder: Path) -> dict[str, str]:
    """Hashes and figures of a finished run, but for what tells the time."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    found = dict(_hashed("checkpoint", checkpoint))
    with (folder / "metrics.csv").open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            found |= {
                f"metrics {number} {name}": value
                for name, value in row.items()
                if name not in MEASURED
            }
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("status", "steps", "tokens_seen", "weights_sha256", "valid", "test"):
        found[f"summary {name}"] = json.dumps(summary[name])
    for file in sorted((folder / "checkpoints").iterdir()):
        found[f"file {file.name}"] = str(file.readlink()) if file.is_symlink() else ""
    assert sum(name.endswith("train/loss") for name in found) >= STEPS, "nothing to compare"
    return found


def _hashed(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if name.endswith(("/seconds", "/dirpath", "_path", "/best_k_models")):
        return
    if isinstance(value, torch.Tensor):
        raw = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        yield name, hashlib.sha256(raw).hexdigest()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _hashed(f"{name}/{key}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _hashed(f"{name}/{index}", item)
    else:
        yield name, repr(value)


def undisturbed(words: Sequence[str], folder: Path, sabotage: Callable[[], None]) -> dict[str, str]:
    training = Training(words, folder, sabotage)
    while not training.ended():
        time.sleep(0.05)
    assert training.code == 0, training.log.read_text()[-3000:]
    return everything(folder)


def disturbed(
    words: Sequence[str],
    folder: Path,
    sabotage: Callable[[], None],
    draw: random.Random,
    kills: int,
    ranks: int,
    tally: Tally,
) -> None:
    """Start a run, kill it, start it again, until it ends by itself or has been killed enough."""
    tally.runs += 1
    killed_at: int | None = None  # the last step logged before an effective kill
    most_redone = MOST_REDONE
    while True:
        training = Training(words, folder, sabotage)
        began = last_step(folder)
        if killed_at is not None:
            began = _resumed_at(training)
            tally.redone.append(killed_at - began)
            if killed_at - began > most_redone:
                tally.faults.append(f"{folder.name}: {killed_at - began} steps are done again")
        if tally.effective >= kills:
            _gone(training, PATIENCE_SECONDS)
        if training.ended() or not _wait_for_a_moment(training, folder, began, draw):
            if training.code != 0:
                told = training.log.read_text()[-1500:]
                tally.faults.append(f"{folder.name}: a resume ended with {training.code}: {told}")
            return
        target: Target = draw.choice(["all", "rank 0", "rank 1"]) if ranks > 1 else "all"
        _kill(training, target)
        tally.kills += 1
        killed_at = None
        if any(folder.glob("checkpoints/step-*.ckpt")) and not _is_done(folder):
            killed_at = last_step(folder)
            tally.effective += 1
            inside = _is_writing(folder)
            tally.inside_a_write += inside
            most_redone = MOST_REDONE_INSIDE_A_WRITE if inside else MOST_REDONE
        if not _gone(training, 30.0):
            tally.faults.append(f"{folder.name}: processes stayed after a kill of {target}")
            for pid in training.processes():
                os.kill(pid, signal.SIGKILL)
            _gone(training, PATIENCE_SECONDS)


def _is_done(folder: Path) -> bool:
    file = folder / "summary.json"
    return file.is_file() and json.loads(file.read_text())["status"] == "finished"


def _resumed_at(training: Training) -> int:
    """The step that a start goes on from; 0 for one that begins anew."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        told = re.search(r"going on from .*step-(\d+)\.ckpt", training.log.read_text())
        if told or training.ended():
            return int(told[1]) if told else 0
        time.sleep(0.02)
    raise TimeoutError("a run did not begin")


def _wait_for_a_moment(training: Training, folder: Path, began: int, draw: random.Random) -> bool:
    """Return at a moment for a kill; False when the run has ended before."""
    steps = began + draw.randint(2, 2 * EVERY)
    inside = draw.random() < 0.6
    jitter = draw.random() * (0.004 if inside else 0.2)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while last_step(folder) < steps or not training.has_logged():
        if training.ended():
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f"{folder}: no step in {PATIENCE_SECONDS} s")
        time.sleep(0.01)
    while inside and not _is_writing(folder) and not training.ended():
        time.sleep(0.001)
    time.sleep(jitter)
    return not training.ended()


def _is_writing(folder: Path) -> bool:
    return any((folder / "checkpoints").glob(".partial-*"))


def _kill(training: Training, target: Target) -> None:
    processes = training.processes()
    if target == "rank 0":
        processes = [training.pid]
    elif target == "rank 1":
        processes = [pid for pid in processes if pid != training.pid]
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _gone(training: Training, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while training.processes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _compare(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return the entries that differ; the short ones, which tell most, come first."""
    names = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
    told = [f"{name}: {ours.get(name)}, not {theirs.get(name)}" for name in names]
    return sorted(told, key=lambda one: (len(one), one))


def _code() -> str:
    """Hash of all that trains: a rank that Lightning starts reads it anew."""
    files = sorted(Path(xlm_lightning.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def main(arguments: Sequence[str], sabotage: Callable[[], None] = lambda: None) -> int:
    """Run the test; `sabotage` is called in each forked process: a test of the test."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=200, help="effective ones, for each of --ranks"
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[1])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*", help="more words for xlm-train")
    options = parser.parse_args(arguments)
    print(HEADER)
    code_before = _code()
    codes = []
    with tempfile.TemporaryDirectory() as scratch:
        tiny = Path(scratch, "tiny")
        run("xlm-prepare", "corpus=sample_tiny", f"out={tiny}", cwd=tiny.parent).expect()
        for ranks in options.ranks:
            words = words_of(crumbs_of(tiny), ranks, options.words)
            name, folder = f"{ranks} ranks, seed {options.seed}", Path(scratch, f"{ranks}")
            codes.append(trials(name, words, folder, sabotage, options.kills, options.seed, ranks))
    if _code() != code_before:
        print("the code was changed meanwhile: try again")
        codes.append(3)
    return max(codes, key=(0, 2, 1, 3).index)


def words_of(data: Path, ranks: int, more: Sequence[str]) -> list[str]:
    """What is trained; `more` changes any of it."""
    return [
        *WORDS,
        f"data.dir={data}",
        f"trainer.max_steps={STEPS}",
        f"checkpoint.every_n_steps={EVERY}",
        "trainer.val_check_interval=20",
        "trainer.log_every_n_steps=1",
        "trainer.timeout_seconds=60",
        f"trainer.devices={ranks}",
        *more,
    ]


def trials(
    name: str,
    words: Sequence[str],
    folder: Path,
    sabotage: Callable[[], None],
    kills: int,
    seed: int,
    ranks: int,
) -> int:
    """Print a row of the table and what went wrong; return an exit code."""
    began = time.monotonic()
    tally = Tally()
    code = _trials(words, folder, sabotage, kills, seed, ranks, tally)
    print(tally.row(name, time.monotonic() - began), flush=True)
    for fault in tally.faults:
        print(f"  {fault}", flush=True)
    return code


def _trials(
    words: Sequence[str],
    folder: Path,
    sabotage: Callable[[], None],
    kills: int,
    seed: int,
    ranks: int,
    tally: Tally,
) -> int:
    folder.mkdir()
    first, second = (undisturbed(words, folder / name, sabotage) for name in ("a", "b"))
    if differing := _compare(first, second):
        tally.faults.append(f"two undisturbed runs differ: {differing[:5]}")
        return 3
    draw = random.Random(seed + ranks)
    while tally.effective < kills and len(tally.faults) < 5:
        run_folder = folder / f"run-{tally.runs}"
        disturbed(words, run_folder, sabotage, draw, kills, ranks, tally)
        if _is_done(run_folder) and (differing := _compare(everything(run_folder), first)):
            tally.faults.append(f"{run_folder.name} differs: {differing[:5]}")
        if tally.runs > kills + 3:
            return 1 if tally.faults else 2
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
