"""Runs as jobs of a real SLURM with two nodes: started, stopped, requeued."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from cluster.slurm import Slurm
from commands import SCRIPTS
from crumbs import crumbs_of
from in_process import call
from training import STEPS, WORDS, assert_the_same_training, summary

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "slurm.sbatch"
TRAIN = str(SCRIPTS / "xlm-train")
SLURM = ("trainer=slurm", "trainer.accelerator=cpu")
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1")


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (*WORDS, *SLURM, f"data.dir={crumbs_of(prepared)}")


@pytest.fixture(scope="module")
def alone(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process outside SLURM."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    call("xlm-train", *words, f"run.dir={folder}").expect()
    return folder


def script(folder: Path, words: Sequence[str], srun: str = "srun") -> str:
    """Write a batch file that trains; return its name."""
    command = " ".join([srun, TRAIN, *words])
    (folder / "job.sh").write_text(f"#!/bin/bash\n{command}\n")
    return "job.sh"


def output(folder: Path, job: str) -> str:
    """What a batch job has printed."""
    return (folder / f"slurm-{job}.out").read_text()


@pytest.mark.parametrize("shell", [(), ("salloc",)], ids=["outside", "salloc"])
def test_two_nodes(
    shell: tuple[str, ...], slurm: Slurm, words: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    """The job's id names the folder; srun says how many processes there are."""
    nodes = ("--nodes=2", "--ntasks=2")
    start = [*shell, *nodes, "srun"] if shell else ["srun", *nodes]
    slurm.call(*start, TRAIN, *words, cwd=tmp_path)
    (folder,) = (tmp_path / "outputs" / "debug").iterdir()
    job, _, step = folder.name.partition(".")
    assert step == ("0" if shell else "")  # in a shell one run follows another
    slurm.wait(job)
    assert slurm.state(job) == "COMPLETED"
    assert summary(folder)["world_size"] == 2
    assert_the_same_training(folder, alone)


def test_the_first_process_prepares_the_sample_corpus(slurm: Slurm, tmp_path: Path) -> None:
    """The other one waits for it."""
    words = ("experiment=debug", *SLURM, "trainer.max_steps=2", "schedule.warmup_steps=1")
    slurm.call("srun", "--nodes=2", "--ntasks=2", TRAIN, *words, cwd=tmp_path)
    (run,) = tmp_path.glob("outputs/debug/*/summary.json")
    assert summary(run.parent)["status"] == "finished"


def test_a_shell_of_salloc(
    slurm: Slurm, words: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    """Nothing has been started there: Lightning starts the processes."""
    words = (*words, "trainer.devices=2", f"run.dir={tmp_path / 'run'}")
    slurm.call("salloc", "--nodes=2", "--ntasks=2", TRAIN, *words, cwd=tmp_path)
    assert_the_same_training(tmp_path / "run", alone)


@pytest.mark.parametrize("nodes", [("--nodes=1", "--ntasks=2"), ("--nodes=2",)])
def test_a_forgotten_srun_is_told(
    nodes: tuple[str, ...], slurm: Slurm, words: tuple[str, ...], tmp_path: Path
) -> None:
    job = slurm.submit(*nodes, script(tmp_path, words, srun=""), cwd=tmp_path)
    slurm.wait(job)
    assert slurm.fields(job)["ExitCode"] == "2:0"
    assert "write 'srun xlm-train' instead of 'xlm-train'" in output(tmp_path, job)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("tasks", "added", "complaint"),
    [
        ("3", (), "all need the same number; say --ntasks-per-node"),
        ("2", ("trainer.devices=2",), "say trainer.devices=1 trainer.num_nodes=2, or auto"),
    ],
)
def test_tasks_that_do_not_fit_are_told(
    tasks: str,
    added: tuple[str, ...],
    complaint: str,
    slurm: Slurm,
    words: tuple[str, ...],
    tmp_path: Path,
) -> None:
    file = script(tmp_path, [*words, *added])
    job = slurm.submit("--nodes=2", f"--ntasks={tasks}", file, cwd=tmp_path)
    slurm.wait(job)
    assert slurm.fields(job)["ExitCode"] == "2:0"
    assert complaint in output(tmp_path, job)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("ended_by", ["its signal", "an administrator"])
def test_a_requeued_job_ends_as_an_undisturbed_one(
    ended_by: str, slurm: Slurm, words: tuple[str, ...], tmp_path: Path
) -> None:
    """SIGUSR1 makes a run stop and requeue itself; an administrator's requeue sends SIGTERM."""
    steps = 6 * STEPS  # long enough to be met in the middle
    file = script(tmp_path, [*words, f"trainer.max_steps={steps}"], "srun --kill-on-bad-exit")
    disturbed = slurm.submit(*TWO_NODES, "--open-mode=append", file, cwd=tmp_path)
    folder = tmp_path / "outputs" / "debug" / disturbed
    slurm.wait(disturbed, (folder / "checkpoints" / "last.ckpt").exists)
    if ended_by == "its signal":
        slurm.call("scancel", "--signal=USR1", disturbed)
    else:
        slurm.call("scontrol", "requeue", disturbed)
    slurm.wait(disturbed, lambda: slurm.state(disturbed) == "PENDING")
    between = summary(folder)
    assert between["status"] == "stopped"
    assert 0 < between["steps"] < steps

    undisturbed = slurm.submit(*TWO_NODES, file, cwd=tmp_path)
    for job in (disturbed, undisturbed):
        slurm.wait(job)
        assert slurm.state(job) == "COMPLETED", output(tmp_path, job)
    assert slurm.fields(disturbed)["Restarts"] == "1"
    ends = [summary(folder), summary(folder.with_name(undisturbed))]
    assert [end["status"] for end in ends] == ["finished"] * 2
    for name in ("weights_sha256", "tokens_seen", "valid"):
        assert ends[0][name] == ends[1][name]


def test_a_signal_during_the_start_is_not_lost(
    slurm: Slurm, words: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    """It waits until the run can be stopped with a checkpoint."""
    job = slurm.submit("--ntasks=1", script(tmp_path, words), cwd=tmp_path)
    folder = tmp_path / "outputs" / "debug" / job
    slurm.wait(job, lambda: any(map(blocks_requeue_signal, processes_of(job))))
    assert not folder.exists()
    slurm.call("scancel", "--signal=USR1", job)
    slurm.wait(job, lambda: slurm.state(job) == "PENDING")
    assert summary(folder)["steps"] == 1
    slurm.wait(job)
    assert slurm.fields(job)["Restarts"] == "1"
    assert summary(folder)["weights_sha256"] == summary(alone)["weights_sha256"]


def processes_of(job: str) -> list[Path]:
    """Folders below /proc of the processes that a job's srun has started."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            variables = environ.read_text().split("\0")
            if f"SLURM_JOB_ID={job}" in variables and "SLURM_STEP_ID=0" in variables:
                found.append(environ.parent)
    return found


def blocks_requeue_signal(process: Path) -> bool:
    with suppress(OSError):
        (blocked,) = re.findall(r"SigBlk:\t(\w+)", (process / "status").read_text())
        return bool(int(blocked, 16) & 1 << (signal.SIGUSR1 - 1))
    return False


def test_a_task_of_an_array_requeues_itself_alone(
    slurm: Slurm, words: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    """The last task's own id is that of the whole array."""
    file = script(tmp_path, words)
    array = slurm.submit("--array=0-1", "--ntasks=1", file, cwd=tmp_path)
    tasks = [f"{array}_{index}" for index in range(2)]
    ids = [slurm.fields(task)["JobId"] for task in tasks]
    assert ids[1] == array
    folders = [tmp_path / "outputs" / "debug" / job for job in ids]
    slurm.wait(tasks[1], (folders[1] / "checkpoints" / "last.ckpt").exists)
    slurm.call("scancel", "--signal=USR1", tasks[1])
    for task in tasks:
        slurm.wait(task)
    assert [slurm.fields(task)["Restarts"] for task in tasks] == ["0", "1"]
    for folder in folders:
        assert summary(folder)["weights_sha256"] == summary(alone)["weights_sha256"]


def test_a_refused_requeue_is_told(slurm: Slurm, words: tuple[str, ...], tmp_path: Path) -> None:
    file = script(tmp_path, words)
    job = slurm.submit("--no-requeue", "--ntasks=1", file, cwd=tmp_path)
    folder = tmp_path / "outputs" / "debug" / job
    slurm.wait(job, (folder / "checkpoints" / "last.ckpt").exists)
    slurm.call("scancel", "--signal=USR1", job)
    slurm.wait(job)
    said = output(tmp_path, job)
    assert f"scontrol requeue {job} failed: " in said
    assert f"run.dir=outputs/debug/{job}" in said
    assert f"exit code {128 + signal.SIGUSR1}" in said
    assert summary(folder)["status"] == "stopped"


def test_the_example_requeues_itself_before_its_time_is_up(
    slurm: Slurm, words: tuple[str, ...], tmp_path: Path
) -> None:
    """docs/slurm.sbatch as it stands, on smaller nodes and for minutes instead of days."""
    smaller = ("--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1")
    sooner = ("--time=3", "--signal=SIGUSR1@60")
    job = slurm.submit(
        *smaller,
        *sooner,
        str(EXAMPLE),
        *words,
        f"trainer.max_steps={10_000 * STEPS}",  # time alone ends it, on the fastest machine
        "trainer.max_time=00:00:02:30",  # of both lives together, as Lightning counts
        cwd=tmp_path,
        PATH=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
    )
    slurm.wait(job, timeout=900)
    assert slurm.state(job) == "COMPLETED", (tmp_path / f"xlm-{job}.log").read_text()
    assert int(slurm.fields(job)["Restarts"]) >= 1
    end = summary(tmp_path / "outputs" / "debug" / job)
    assert (end["status"], end["world_size"]) == ("finished", 2)
