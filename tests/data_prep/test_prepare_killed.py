"""Real processes that are killed, stopped or run out of disk, and what the next run makes of it."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import children
from small_preparation import arguments, make_text, tree

from data_prep.verify import verify
from data_prep.workspace import naming_disk_errors
from xlm_lightning.errors import UserError

PROGRAM = Path(__file__).with_name("prepare_process.py")
PIECES = 20

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")


@pytest.fixture
def files(tmp_path) -> dict[str, dict[str, list[Path]]]:
    """Enough text for `PIECES` shards of 20 kB."""
    (tmp_path / "text").mkdir()
    given: dict[str, dict[str, list[Path]]] = {}
    for split, size in {"train": PIECES * 20_000, "valid": 20_000}.items():
        text = make_text(len(split), 20_000)
        path = tmp_path / "text" / f"{split}.de.txt"
        path.write_bytes(text.encode()[:size].rsplit(b"\n", 1)[0] + b"\n")
        given[split] = {"de": [path]}
    return given


def start(tmp_path: Path, files: Any, **changes: Any) -> subprocess.Popen[bytes]:
    given = tmp_path / "arguments.json"
    everything = {"out": tmp_path / "out", "files": files, **arguments(**changes)}
    given.write_text(json.dumps(everything, default=str))
    return subprocess.Popen(
        [sys.executable, PROGRAM, given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell's background job, and so a test run in one, is born deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_shards(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(finished(out)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def finished(out: Path) -> set[Path]:
    return set(out.glob(".work/train/de-*.json"))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_death(processes: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_is_taken_up_where_it_was(tmp_path, files, prepare_small, workers):
    out = tmp_path / "out"
    process = start(tmp_path, files, workers=workers)
    wait_for_shards(process, out, 3)
    workers_alive = children(process.pid)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in finished(out)}
    assert 3 <= len(done) < PIECES
    assert not (out / "manifest.json").exists()

    wait_for_death(workers_alive)
    shards = {path: path.stat().st_mtime_ns for path in out.glob("train/de-*.bin")}
    (out / "train" / ".partial-1-de-00099.bin").write_bytes(b"half")  # as a kill may leave
    again = start(tmp_path, files, workers=workers)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    reused = int(errors.split(b" shards were already done")[0].split()[-3])
    assert len(done) <= reused < PIECES
    kept = [path for path, changed in shards.items() if path.stat().st_mtime_ns == changed]
    assert len(kept) >= len(done)

    prepare_small(tmp_path / "undisturbed", files)
    assert tree(out) == tree(tmp_path / "undisturbed")
    verify(out)


def test_a_shard_damaged_between_two_runs_is_made_again(tmp_path, files, prepare_small):
    out = tmp_path / "out"
    process = start(tmp_path, files)
    wait_for_shards(process, out, 3)
    process.kill()
    process.communicate()
    first, second, third = sorted(finished(out))[:3]
    for record, damage in ((first, b""), (second, b"\0\0")):
        (out / "train" / record.with_suffix(".bin").name).write_bytes(damage)
    (out / "train" / third.with_suffix(".docs.npy").name).unlink()
    prepare_small(out, files)
    prepare_small(tmp_path / "undisturbed", files)
    assert tree(out) == tree(tmp_path / "undisturbed")


def test_a_killed_worker_is_an_error_and_no_hang(tmp_path, files):
    out = tmp_path / "out"
    process = start(tmp_path, files, workers=2)
    wait_for_shards(process, out, 2)
    for pid in children(process.pid):
        if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            break
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 2, errors
    assert b"a worker process was killed" in errors
    assert output == b""
    assert not (out / "manifest.json").exists()
    again = start(tmp_path, files, workers=2)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert b"already done" in errors
    verify(out)


def test_ctrl_c_ends_the_run_and_its_workers(tmp_path, files):
    process = start(tmp_path, files, workers=2)
    wait_for_shards(process, tmp_path / "out", 2)
    workers_alive = children(process.pid)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert not (tmp_path / "out" / "manifest.json").exists()
    wait_for_death(workers_alive)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_fills_up_is_named_and_the_next_run_goes_on(
    tmp_path, files, prepare_small, workers
):
    """A limit on the size of files, set in the middle of the run, stands in for the disk."""
    out = tmp_path / "out"
    process = start(tmp_path, files, workers=workers)
    wait_for_shards(process, out, 3)
    for pid in (process.pid, *children(process.pid)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, 100))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert re.search(
        rf"{re.escape(str(out))}/\S+ cannot be written: File too large".encode(), errors
    )
    assert b"Traceback" not in errors
    assert not (out / "manifest.json").exists()
    assert not list(out.rglob(".partial-*"))
    assert len(finished(out)) >= 3
    prepare_small(out, files)
    prepare_small(tmp_path / "undisturbed", files)
    assert tree(out) == tree(tmp_path / "undisturbed")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full")
def test_no_space_left_is_told(tmp_path):
    told = f"no space is left for {tmp_path}; make room"
    with pytest.raises(UserError, match=told), naming_disk_errors(tmp_path):
        Path("/dev/full").write_bytes(b"x")
