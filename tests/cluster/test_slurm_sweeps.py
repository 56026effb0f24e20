"""Sweeps whose jobs are jobs of a real SLURM, handed in through submitit."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cluster.slurm import Slurm
from commands import SCRIPTS
from crumbs import crumbs_of
from training import STEPS, WORDS, summary

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TRAIN = str(SCRIPTS / "xlm-train")
LAUNCHER = ("hydra/launcher=slurm", "trainer=slurm", "trainer.accelerator=cpu")
TWO_NODES = ("hydra.launcher.nodes=2", "hydra.launcher.mem_gb=0.5")


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (*WORDS, *LAUNCHER, f"data.dir={crumbs_of(prepared)}")


def start(slurm: Slurm, *words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [TRAIN, "-m", *words],
        cwd=cwd,
        env=slurm.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0, timeout: float = 400) -> str:
    """Wait for the end of a sweep; return what it has told on standard error."""
    try:
        _, stderr = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == code, stderr[-5000:]
    return stderr


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def job_id(sweep: Path, job: int) -> str:
    return (sweep / "answers" / f"{job}.slurm").read_text()


def processes_of(job: str) -> list[int]:
    """The processes of a job's tasks."""
    mark = f"\0SLURM_JOB_ID={job}\0".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def test_a_grid_on_two_nodes(slurm: Slurm, words: tuple[str, ...], tmp_path: Path) -> None:
    """One job of two processes fails by its own mistake; the others are not disturbed."""
    sweep = tmp_path / "outputs" / "sweeps" / "grid"
    given = (*words, *TWO_NODES, "sweep.name=grid", "trainer.devices=auto,3")
    finish(start(slurm, *given, cwd=tmp_path), code=2)
    finished, failed = rows_of(sweep)
    assert (finished["status"], failed["status"]) == ("finished", "failed")
    assert "srun has started 1 processes on each of 2 nodes" in failed["error"]
    assert summary(sweep / "0")["world_size"] == 2
    ranks = json.loads((sweep / "0" / "provenance.json").read_text())["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1]
    assert slurm.fields(job_id(sweep, 0))["NumNodes"] == "2"


def test_a_killed_sweep_finds_its_jobs_again(
    slurm: Slurm, words: tuple[str, ...], tmp_path: Path
) -> None:
    """A job that has been requeued in the meantime included: one SLURM job for each of the sweep.

    The job that nobody disturbed and the requeued one end with the same weights.
    """
    sweep = tmp_path / "outputs" / "sweeps" / "kept"
    given = (*words, "sweep.name=kept", "trainer.max_time=null,00:01:00:00")
    process = start(slurm, *given, cwd=tmp_path)
    last = sweep / "1" / "checkpoints" / "last.ckpt"
    wait_until(last.is_file, process)
    before = [job_id(sweep, 0), job_id(sweep, 1)]
    process.kill()
    process.communicate()
    slurm.call("scancel", "--signal=USR1", before[1])
    slurm.wait(before[1], lambda: slurm.fields(before[1])["Restarts"] == "1")
    finish(start(slurm, *given, cwd=tmp_path))
    assert [job_id(sweep, 0), job_id(sweep, 1)] == before
    assert [row["status"] for row in rows_of(sweep)] == ["finished", "finished"]
    first, second = summary(sweep / "0"), summary(sweep / "1")
    assert first["steps"] == second["steps"] == STEPS
    assert first["weights_sha256"] == second["weights_sha256"]


def test_a_job_that_disappears_has_failed(
    slurm: Slurm, words: tuple[str, ...], tmp_path: Path
) -> None:
    sweep = tmp_path / "outputs" / "sweeps" / "gone"
    given = (*words, "sweep.name=gone", "trainer.max_steps=5000,60", "schedule.warmup_steps=1")
    process = start(slurm, *given, cwd=tmp_path)
    wait_until((sweep / "0" / "metrics.csv").is_file, process)
    for task in processes_of(job_id(sweep, 0)):
        with suppress(ProcessLookupError):  # ended with the one before it
            os.kill(task, signal.SIGKILL)
    stderr = finish(process, code=1)
    assert f"SLURM job {job_id(sweep, 0)} has gone without an answer" in stderr
    assert [row["status"] for row in rows_of(sweep)] == ["failed", "finished"]


def test_a_signal_stops_the_jobs(slurm: Slurm, words: tuple[str, ...], tmp_path: Path) -> None:
    """One saves and ends, the one that waits for its nodes is taken from the queue."""
    sweep = tmp_path / "outputs" / "sweeps" / "stopped"
    whole = ("hydra.launcher.nodes=2", "hydra.launcher.cpus_per_task=2")
    given = (*words, "trainer.max_steps=5000", *whole, "sweep.name=stopped", "seed=1,2")
    process = start(slurm, *given, cwd=tmp_path)
    wait_until((sweep / "0" / "metrics.csv").is_file, process)
    wait_until((sweep / "answers" / "1.slurm").is_file, process)
    assert slurm.state(job_id(sweep, 1)) == "PENDING"
    os.kill(process.pid, signal.SIGTERM)
    finish(process, code=128 + signal.SIGTERM)
    assert [row["status"] for row in rows_of(sweep)] == ["stopped", "stopped"]
    assert summary(sweep / "0")["status"] == "stopped"
    assert (sweep / "0" / "checkpoints" / "last.ckpt").is_file()
    assert not (sweep / "1").exists()


def test_what_slurm_refuses_is_told(slurm: Slurm, words: tuple[str, ...], tmp_path: Path) -> None:
    given = (*words, "hydra.launcher.partition=none", "seed=1,2")
    stderr = finish(start(slurm, *given, cwd=tmp_path), code=2)
    assert "hydra/launcher=slurm: " in stderr
    assert "invalid partition" in stderr
