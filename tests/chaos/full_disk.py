"""Fill the disk under a training, kill some of them as well: what is there must be whole.

    python tests/chaos/full_disk.py --count 100

Each run writes to a small file system of its own (tmpfs, in a mount namespace: root, Linux), which
is full after some checkpoints; half of the runs are killed at a random moment besides. Afterwards
every checkpoint must agree with its hash, `last.ckpt` be among them, nothing half-written be left
by a run that ended by itself, and, when there is room, the run must go on to its end.
Exit code 1 for anything else.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from chaos.kills import PATIENCE_SECONDS, Training, words_of
from commands import run
from crumbs import crumbs_of

from xlm_lightning.checkpoint import newest_whole, read_whole
from xlm_lightning.errors import UserError

INSIDE = "XLM_CHAOS_MOUNTS"  # set in the namespace
SMALLEST, LARGEST = 1_500, 6_500  # kilobytes; a checkpoint has 520


def mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    subprocess.run(command, check=True)


def wait_for_end(training: Training) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not training.ended():
        if time.monotonic() > deadline:
            os.kill(training.pid, signal.SIGKILL)
        time.sleep(0.02)
    assert training.code is not None
    return training.code


def complaints(folder: Path, *, killed: bool) -> list[str]:
    """What is wrong with what a run has left."""
    checkpoints = folder / "checkpoints"
    found = []
    for file in (*checkpoints.glob("step-*.ckpt"), *checkpoints.glob("last.ckpt")):
        try:
            read_whole(file)
        except UserError as error:
            found.append(str(error))
    if any(checkpoints.glob("step-*.ckpt")) and not killed:
        newest = newest_whole(checkpoints)
        if newest.name != (checkpoints / "last.ckpt").readlink().name:
            found.append(f"last.ckpt is not {newest.name}")
    if not killed and (left := list(folder.rglob(".partial-*"))):
        found.append(f"left behind: {left}")
    return found


def one_run(words: Sequence[str], scratch: Path, draw: random.Random, tally: list[int]) -> str:
    """Return what went wrong; `tally`: full disks, kills, runs with a checkpoint."""
    disk = scratch / "disk"
    disk.mkdir(exist_ok=True)
    mount(disk, f"size={draw.randint(SMALLEST, LARGEST)}k")
    folder = disk / "run"
    try:
        training = Training(words, folder, lambda: None)
        killed = draw.random() < 0.5
        if killed:
            after = draw.randint(1, 8)  # checkpoints, the last of which is being written, or not
            while (
                not training.ended() and len(list(folder.glob("checkpoints/*step-*"))) < 2 * after
            ):
                time.sleep(0.001)
            time.sleep(draw.random() * 0.3)
            if not training.ended():
                os.kill(training.pid, signal.SIGKILL)
        code = wait_for_end(training)
        if code == -signal.SIGKILL and not killed:
            return "it did not end"
        killed = code == -signal.SIGKILL
        told = training.log.read_text()
        full = "could not be written: No space left on device" in told
        tally[0] += full
        tally[1] += killed
        tally[2] += any(folder.glob("checkpoints/step-*.ckpt"))
        if code not in (0, 1, -signal.SIGKILL) or (code == 1) != full:
            return f"exit {code}: {told[-800:]}"
        if found := complaints(folder, killed=killed):
            return "; ".join(found)
        mount(disk, "remount,size=64m")
        again = Training(words, folder, lambda: None)
        if wait_for_end(again) != 0:
            return f"did not go on: {again.log.read_text()[-800:]}"
        return "; ".join(complaints(folder, killed=False))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        own = ["unshare", "--mount", sys.executable, __file__, *arguments]
        os.execvp(own[0], own)
    draw = random.Random(options.seed)
    tally = [0, 0, 0]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        run("xlm-prepare", "corpus=sample_tiny", f"out={scratch / 'tiny'}", cwd=scratch).expect()
        keep = ["checkpoint.keep_last=100", "checkpoint.keep_best=0"]
        words = words_of(crumbs_of(scratch / "tiny"), 1, keep)
        answers = [one_run(words, scratch, draw, tally) for _ in range(options.count)]
    faults = [f"run {number}: {fault}" for number, fault in enumerate(answers) if fault]
    full, killed, with_checkpoint = tally
    seconds = time.monotonic() - began
    print("  runs   full  killed  with checkpoints  faults  seconds")
    print(
        f"{options.count:6} {full:6} {killed:7} {with_checkpoint:17} {len(faults):7} {seconds:8.0f}"
    )
    for fault in faults[:5]:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
