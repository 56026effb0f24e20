"""Several processes prepare one folder: the same bytes, whoever does what and whoever is killed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import SCRIPTS, environment
from small_preparation import arguments, make_text, tree

from data_prep.claims import claim, one_at_a_time
from data_prep.verify import verify
from data_prep.workspace import naming_disk_errors, workspace
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import manifest_sha256

PROGRAM = Path(__file__).with_name("prepare_process.py")
CLAIM = "import sys, time; from pathlib import Path; from data_prep.claims import claim\n"
CLAIM += "held = claim(Path(sys.argv[1])); print(held is not None, flush=True); time.sleep(60)"
COME_AND_GO = """
import sys
from pathlib import Path
from data_prep.workspace import naming_disk_errors, workspace

for _ in range(300):
    with workspace(Path(sys.argv[1]), {"text.mode": "moses"}) as session:
        session.save(session.work / "train" / "de-00000.json", {})
"""

TASKS = """
import subprocess
from datatrove.executor import LocalPipelineExecutor

def prepare(data, rank, world_size):
    subprocess.run({command}, check=True, stdout=subprocess.DEVNULL)
    print("prepared by", rank, flush=True)

if __name__ == "__main__":
    LocalPipelineExecutor([prepare], tasks=2, workers=2, logging_dir={logs!r}).run()
"""

Process = subprocess.Popen[bytes]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, dict[str, list[Path]]]:
    """Enough text for about ten train shards of 20 kB in each of two languages."""
    (tmp_path / "text").mkdir()
    given: dict[str, dict[str, list[Path]]] = {"train": {}, "valid": {}}
    for seed, language in enumerate(("de", "en")):
        for split, size in {"train": 200_000, "valid": 20_000}.items():
            text = make_text(10 * seed + len(split), 20_000)
            path = tmp_path / "text" / f"{split}.{language}.txt"
            path.write_bytes(text.encode()[:size].rsplit(b"\n", 1)[0] + b"\n")
            given[split][language] = [path]
    return given


def start(tmp_path: Path, files: Any, begin: Path | None = None, **changes: Any) -> Process:
    """Start a process, which waits for the file `begin` when it is ready."""
    given = tmp_path / f"arguments-{time.monotonic_ns()}.json"
    everything = {"out": tmp_path / "out", "files": files, **arguments(**changes)}
    if begin is not None:
        everything["begin"] = begin
    given.write_text(json.dumps(everything, default=str))
    return subprocess.Popen(
        [sys.executable, PROGRAM, given], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def end(processes: Sequence[Process], code: int = 0) -> list[str]:
    """What each said on stderr."""
    said = []
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == code, errors.decode()
        said.append(errors.decode())
    return said


def wait_until(condition: Any, process: Process | None = None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def shares(said: str) -> list[int]:
    """How many shards each process has made: `shards made together: 7 by HOST:12, ...`."""
    line = next(line for line in said.splitlines() if line.startswith("shards made together"))
    return [int(share.split()[0]) for share in line.partition(": ")[2].split(", ")]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_two_processes_at_once(tmp_path, files, prepare_small, workers):
    out = tmp_path / "out"
    begin = tmp_path / "begin"
    together = [start(tmp_path, files, begin, workers=workers) for _ in range(2)]
    wait_until(lambda: len(list(tmp_path.glob("begin.*"))) == 2)
    begin.touch()
    end(together)
    prepare_small(tmp_path / "alone", files)
    assert tree(out) == tree(tmp_path / "alone")
    assert manifest_sha256(out) == manifest_sha256(tmp_path / "alone")
    verify(out)


def test_two_processes_share_the_work(tmp_path, files, prepare_small):
    """One finds every other piece claimed, and is stopped; another makes those pieces."""
    prepare_small(tmp_path / "alone", files)
    shards = [path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").glob("*/*.bin")]
    work = tmp_path / "out" / ".work"
    locks = [(work / shard).with_suffix(".lock") for shard in sorted(shards)[1::2]]
    claimed = [claim(lock) for lock in locks]
    one = start(tmp_path, files)
    rest = len(shards) - len(claimed)
    wait_until(
        lambda: sum((work / shard).with_suffix(".json").exists() for shard in shards) == rest, one
    )
    one.send_signal(signal.SIGSTOP)
    for held in claimed:
        assert held is not None
        held.release()
    said = end([start(tmp_path, files)])
    one.send_signal(signal.SIGCONT)
    said += end([one])
    for each in said:
        assert sorted(shares(each)) == sorted([len(claimed), rest]), each
    assert tree(tmp_path / "out") == tree(tmp_path / "alone")


@pytest.mark.parametrize("stage", [pytest.param("counted/train", marks=pytest.mark.slow), "train"])
def test_the_piece_of_a_process_that_ends_is_taken_over(tmp_path, files, prepare_small, stage):
    """Another process claims a piece and is killed when all others are done."""
    prepare_small(tmp_path / "alone", files)
    pieces = len(list((tmp_path / "alone").glob("train/*.bin")))
    out = tmp_path / "out"
    records = out / ".work" / stage
    other = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(records / "de-00004.lock")], stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"True\n"
    process = start(tmp_path, files)
    wait_until(lambda: len(list(records.glob("*-0*.json"))) == pieces - 1, process)
    time.sleep(0.3)
    assert not (records / "de-00004.json").exists()
    assert process.poll() is None
    other.kill()
    other.communicate()
    (said,) = end([process])
    assert "taking it over" in said
    assert tree(out) == tree(tmp_path / "alone")


@pytest.mark.slow
def test_tasks_of_datatrove(tmp_path, files):
    """As docs/preparing.md shows it, with the executor that needs no cluster; it goes on too."""
    for (path,) in files["train"].values():
        path.write_bytes(path.read_bytes() * 12)  # several pieces of the command's smallest size
    words = [
        f"corpus.{split}.{name}={path}" for split in files for name, (path,) in files[split].items()
    ]
    words += ["corpus=text", "bpe.merges=100", "shard_megabytes=1", "workers=1"]
    program = tmp_path / "tasks.py"
    program.write_text(
        TASKS.format(
            command=[str(SCRIPTS / "xlm-prepare"), *words, f"out={tmp_path / 'out'}"],
            logs=str(tmp_path / "logs"),
        )
    )
    for times in (2, 0):  # what is done stays done
        done = subprocess.run(
            [sys.executable, program],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("prepared by") == times
    alone = [str(SCRIPTS / "xlm-prepare"), *words, f"out={tmp_path / 'alone'}"]
    subprocess.run(alone, env=environment(), capture_output=True, check=True)
    assert tree(tmp_path / "out") == tree(tmp_path / "alone")


@pytest.mark.slow
def test_one_of_two_is_killed_and_the_other_goes_on(tmp_path, files, prepare_small):
    out = tmp_path / "out"
    one, other = (start(tmp_path, files) for _ in range(2))
    wait_until(lambda: len(list(out.glob(".work/train/*.json"))) >= 3, one)
    one.kill()
    one.communicate()
    end([other])
    prepare_small(tmp_path / "alone", files)
    assert tree(out) == tree(tmp_path / "alone")


def test_a_mistake_in_the_text_ends_both_and_leaves_nothing(tmp_path, files):
    path = files["train"]["de"][0]
    path.write_bytes(path.read_bytes()[:15_000].replace(b"\n", b"\xff\n", 1))
    for said in end([start(tmp_path, files) for _ in range(2)], code=2):
        assert "train.de.txt line 1, byte" in said
        assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused_while_somebody_is_at_work(tmp_path, files, prepare_small):
    out = tmp_path / "out"
    process = start(tmp_path, files)
    wait_until((out / ".work" / "counted").is_dir, process)
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(UserError, match=r"another process is preparing .* bpe.merges=100, not"):
            prepare_small(out, files, merges=99)
        files_of_other_text = {"train": {"de": files["train"]["de"]}}
        with pytest.raises(UserError, match=r"another process is preparing .* corpus.train.en="):
            prepare_small(out, files_of_other_text)
    finally:
        process.send_signal(signal.SIGCONT)
    end([process])
    verify(out)


def test_work_is_kept_while_others_are_at_it(tmp_path, files):
    """A mistake that one process finds does not take the folder away from another."""
    prepared = {"text.mode": "moses"}
    with workspace(tmp_path / "out", prepared) as session:
        with pytest.raises(UserError, match="found"), workspace(tmp_path / "out", prepared) as same:
            raise UserError("found a mistake")
        assert (same.work, same.id) == (session.work, session.id)
        assert (session.work / "session.json").is_file()


def test_a_file_system_without_locks_is_named(tmp_path):
    told = "does not lock files .*; mount it with locks"
    with pytest.raises(UserError, match=told), naming_disk_errors(tmp_path):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_records_of_an_earlier_session_are_not_believed(tmp_path):
    out, prepared = tmp_path / "out", {"text.mode": "moses"}
    record = out / ".work" / "train" / "de-00000.json"
    with workspace(out, prepared) as session:
        session.save(record, {"key": "a"})
        assert session.load(record) is not None
        with workspace(out, prepared) as joined:
            assert joined.load(record) is not None
    assert not record.exists()  # as nobody is left
    session.save(record, {"key": "a"})
    with workspace(out, prepared) as later:
        assert later.load(record) is None


def test_who_comes_while_the_last_one_leaves(tmp_path):
    """`.work` may go between any two steps of a newcomer, who then makes it anew."""
    words = [sys.executable, "-c", COME_AND_GO, str(tmp_path / "out")]
    end([subprocess.Popen(words, stderr=subprocess.PIPE) for _ in range(2)])
    assert tree(tmp_path / "out") == {}


def test_one_at_a_time(tmp_path):
    """A lock file that is removed each time lets one in at a time all the same."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(25):
            with one_at_a_time(tmp_path / "lock", "counting"):
                before = int(counter.read_text())
                time.sleep(0.0005)
                counter.write_text(str(before + 1))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "200"
    assert not (tmp_path / "lock").exists()


def test_a_claim_is_one_process_s(tmp_path):
    first = claim(tmp_path / "lock")
    assert first is not None
    assert claim(tmp_path / "lock") is None
    first.release()
    second = claim(tmp_path / "lock")
    assert second is not None
    second.release()


@pytest.mark.slow
def test_the_command_on_three_machines_at_once(tmp_path):
    """One of them writes the sample text, the others wait for it; then all prepare it."""
    words = ["corpus.megabytes=1", f"corpus.folder={tmp_path / 'raw'}", "shard_megabytes=1"]
    words += ["bpe.merges=500", "workers=1"]
    (alone,) = [_command(*words, f"out={tmp_path / 'alone'}")]
    end([alone])
    (tmp_path / "raw").rename(tmp_path / "raw_of_alone")
    end([_command(*words, f"out={tmp_path / 'out'}") for _ in range(3)])
    assert tree(tmp_path / "raw") == tree(tmp_path / "raw_of_alone")
    assert tree(tmp_path / "out") == tree(tmp_path / "alone")


def _command(*words: str) -> Process:
    return subprocess.Popen(
        [SCRIPTS / "xlm-prepare", *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_random_kills_change_nothing(tmp_path, files, prepare_small):
    """Three processes, of which a random one is killed and replaced, again and again."""
    prepare_small(tmp_path / "alone", files)
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    rng = random.Random(seed)
    kills = rounds = 0
    while kills < 20:
        rounds += 1
        processes = [start(tmp_path, files, workers=rng.choice([0, 2])) for _ in range(3)]
        out = tmp_path / "out"
        while not (out / "manifest.json").exists() and kills < 20:
            time.sleep(rng.uniform(0.3, 1.5))
            victim = rng.randrange(3)
            if processes[victim].poll() is None:
                processes[victim].kill()
                kills += 1
            processes[victim].communicate()
            processes[victim] = start(tmp_path, files, workers=rng.choice([0, 2]))
        end(processes)
        assert tree(out) == tree(tmp_path / "alone")
        out.rename(tmp_path / f"out-{rounds}")
