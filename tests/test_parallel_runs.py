"""One training, however many processes share it and whoever starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import SCRIPTS, Outcome, environment, run, run_and_signal
from crumbs import crumbs_of
from in_process import call
from processes import children, has_ended, wait_until
from training import STEPS, WORDS, assert_the_same_training, logged_steps, summary

from xlm_lightning.launch import NO_SHARED_STORE

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")

TRAINERS = {
    "cpu": ["trainer=cpu"],
    "ddp_cpu": ["trainer=ddp_cpu"],
    "fsdp": ["trainer=fsdp", "trainer.devices=2", "trainer.precision=32"],
}


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (*WORDS, f"data.dir={crumbs_of(prepared)}")


@pytest.fixture(scope="module")
def alone(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, which takes four micro-batches for each step."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    call("xlm-train", *words, f"run.dir={folder}").expect()
    return folder


def torchrun(options: Sequence[str], words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHRUN, *options, str(SCRIPTS / "xlm-train"), *words],
        env=environment() | {NO_SHARED_STORE: "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str], timeout: float = 300) -> Outcome:
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    return Outcome(process.returncode, stdout, stderr)


def test_two_processes_of_lightning(words: tuple[str, ...], alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    run("xlm-train", *words, "trainer=ddp_cpu", f"run.dir={folder}").expect()
    assert [path.name for path in tmp_path.iterdir()] == ["two"]
    assert summary(folder)["world_size"] == 2
    assert summary(folder)["tokens_seen"] == STEPS * 4 * 2 * 32
    assert logged_steps(folder) == logged_steps(alone)
    assert_the_same_training(folder, alone)


@pytest.mark.slow
def test_two_processes_of_torchrun(words: tuple[str, ...], alone: Path, tmp_path: Path) -> None:
    """The run's folder is named by torchrun's id, which both ranks know."""
    started = torchrun(
        ["--standalone", "--nproc-per-node=2"],
        [*words, "trainer.devices=auto", f"run.dir={tmp_path}/${{run_id:}}"],
    )
    outcome = end_of(started).expect()
    (folder,) = tmp_path.iterdir()
    assert outcome.stdout.count("run_dir") == 1
    assert outcome.result["run_dir"] == str(folder)
    assert_the_same_training(folder, alone)


@pytest.mark.slow
def test_two_nodes_of_one_process(words: tuple[str, ...], alone: Path, tmp_path: Path) -> None:
    """Two agents on one host that meet over loopback, as those of two hosts do."""
    port = 29_700 + os.getpid() % 200
    agents = [
        torchrun(
            [
                "--nnodes=2",
                "--nproc-per-node=1",
                "--rdzv-id=pair",
                "--rdzv-backend=c10d",
                f"--rdzv-endpoint=127.0.0.1:{port}",
                f"--rdzv-conf=is_host={'true' if node == 0 else 'false'}",
                "--local-addr=127.0.0.1",
            ],
            [
                *words,
                "trainer.devices=auto",
                "trainer.network_interface=lo",
                f"run.dir={tmp_path}/${{run_id:}}",
            ],
        )
        for node in range(2)
    ]
    for agent in agents:
        end_of(agent).expect()
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]
    assert_the_same_training(tmp_path / "pair", alone)


@pytest.mark.slow
def test_torchrun_with_another_number_is_told_so(words: tuple[str, ...], tmp_path: Path) -> None:
    started = torchrun(
        ["--standalone", "--nproc-per-node=2"], [*words, f"run.dir={tmp_path / 'run'}"]
    )
    outcome = end_of(started)
    assert outcome.code != 0
    assert "torchrun has started 2 processes" in outcome.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_torchrun_restarts_after_a_kill(
    victim: int, words: tuple[str, ...], tmp_path: Path
) -> None:
    """A killed rank costs the steps since the last checkpoint and nothing else."""
    launch = ["--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    folders = {name: tmp_path / name for name in ("undisturbed", "disturbed")}
    given = {name: [*words, "trainer.devices=2", f"run.dir={f}"] for name, f in folders.items()}
    end_of(torchrun(launch, given["undisturbed"])).expect()

    started = torchrun(launch, given["disturbed"])
    last = folders["disturbed"] / "checkpoints" / "last.ckpt"
    wait_until(last.exists, started)
    os.kill(rank_process(victim, started), signal.SIGKILL)
    end_of(started).expect()
    ends = [summary(folder) for folder in folders.values()]
    assert ends[0]["weights_sha256"] == ends[1]["weights_sha256"]
    assert ends[0]["tokens_seen"] == ends[1]["tokens_seen"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cpu", "ddp_cpu"),
        ("ddp_cpu", "cpu"),
        ("fsdp", "fsdp"),
        ("ddp_cpu", "fsdp"),
        ("fsdp", "cpu"),
    ],
)
def test_a_stopped_run_goes_on_on_another_number_of_processes(
    before: str, after: str, words: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    last = folder / "checkpoints" / "last.ckpt"
    here = (*words, f"run.dir={folder}")
    stopped = run_and_signal(
        "xlm-train", *here, *TRAINERS[before], when=last.exists, number=signal.SIGTERM
    ).expect(128 + signal.SIGTERM)
    assert 0 < stopped.result["steps"] < STEPS
    run("xlm-train", *here, *TRAINERS[after]).expect()
    assert_the_same_training(folder, alone)


@pytest.mark.slow
def test_a_silent_process_ends_the_run(words: tuple[str, ...], tmp_path: Path) -> None:
    """What torch says of it names no key; nothing of the run is left behind."""
    folder = tmp_path / "run"
    added = ("trainer=ddp_cpu", "trainer.timeout_seconds=30", f"trainer.max_steps={100 * STEPS}")
    started = subprocess.Popen(
        [str(SCRIPTS / "xlm-train"), *words, *added, f"run.dir={folder}"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((folder / "checkpoints" / "last.ckpt").exists, started)
    silent = next(
        child
        for child in children(started.pid)
        if "LOCAL_RANK=1" in Path(f"/proc/{child}/environ").read_text().split("\0")
    )
    os.kill(silent, signal.SIGSTOP)
    outcome = end_of(started).expect(1)
    assert "silent for longer than trainer.timeout_seconds=30 (" in outcome.stderr
    assert f"run.dir={folder}" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert summary(folder)["status"] == "failed"
    assert has_ended(silent)


def rank_process(rank: int, agent: subprocess.Popen[str]) -> int:
    """Id of the process of a rank that an agent of torchrun has started."""
    for child in children(agent.pid):
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return child
    raise AssertionError(f"no process of rank {rank}")
