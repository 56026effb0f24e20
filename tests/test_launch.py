"""How many processes a run has, and what each adds to a step, by configuration and by launcher."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch.distributed

from xlm_lightning.errors import UserError
from xlm_lightning.launch import (
    NO_SHARED_STORE,
    World,
    leave_ranks,
    use_network_interface,
    world_of,
)

TORCHRUN = {"TORCHELASTIC_RUN_ID": "7", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}
JOB = {"SLURM_NTASKS": "6", "SLURM_NNODES": "3", "SLURM_JOB_NAME": "train"}
SRUN = JOB | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
}
SHELL = JOB | {"SLURM_JOB_NAME": "interactive"}
ONE_TASK = SRUN | {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}


def world(**changed: Any) -> World:
    """World of a CPU run, but for what is changed."""
    arguments: dict[str, Any] = {
        "devices": 1,
        "num_nodes": "auto",
        "gpus": None,
        "accumulate_grad_batches": None,
        "slots_per_step": None,
    }
    return world_of(**arguments | changed)


@pytest.fixture(autouse=True)
def started_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in getattr(request, "param", {}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, World(1, 1, 1)),
        ({"devices": "auto"}, World(1, 1, 1)),
        ({"devices": "auto", "gpus": 4}, World(4, 1, 1)),
        ({"devices": [1, 3], "gpus": 4, "num_nodes": 2}, World([1, 3], 2, 1)),
        ({"slots_per_step": 8}, World(1, 1, 8)),
        ({"slots_per_step": 8, "devices": 4}, World(4, 1, 2)),
        ({"slots_per_step": 8, "devices": 4, "num_nodes": 2}, World(4, 2, 1)),
        ({"accumulate_grad_batches": 3, "devices": 2}, World(2, 1, 3)),
        ({"accumulate_grad_batches": 4, "devices": 2, "slots_per_step": 8}, World(2, 1, 4)),
    ],
)
def test_lightning_starts_the_processes(asked: dict[str, Any], expected: World) -> None:
    assert world(**asked) == expected


@pytest.mark.parametrize(
    "started_by", [TORCHRUN, SRUN, SRUN | {"SLURM_JOB_NAME": "interactive"}], indirect=True
)
def test_the_launcher_says_how_many() -> None:
    assert world(devices="auto", slots_per_step=12) == World(2, 3, 2)
    assert world(devices=2, num_nodes=3) == World(2, 3, 1)
    with pytest.raises(UserError, match=r"say trainer\.devices=2 trainer\.num_nodes=3, or auto"):
        world()
    with pytest.raises(UserError, match="asks for 6 on 1"):
        world(devices=6, num_nodes=1)


@pytest.mark.parametrize("started_by", [TORCHRUN], indirect=True)
def test_what_restarts_need_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    monkeypatch.setenv("RANK", "1")
    world(devices="auto")
    assert not capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    world(devices="auto")
    assert f"{NO_SHARED_STORE}=1 in torchrun's environment" in capsys.readouterr().err
    monkeypatch.setenv(NO_SHARED_STORE, "1")
    world(devices="auto")
    assert not capsys.readouterr().err


@pytest.mark.parametrize("started_by", [SHELL, ONE_TASK], indirect=True)
def test_a_shell_of_slurm_has_started_nothing() -> None:
    assert world(devices=2) == World(2, 1, 1)


@pytest.mark.parametrize("started_by", [JOB], indirect=True)
def test_a_batch_job_without_srun_would_wait_for_ever() -> None:
    with pytest.raises(UserError, match="write 'srun xlm-train'"):
        world(devices="auto")


@pytest.mark.parametrize(
    "started_by", [SRUN | {"SLURM_STEP_TASKS_PER_NODE": "2(x2),1"}], indirect=True
)
def test_unequal_nodes_are_told() -> None:
    with pytest.raises(UserError, match=r"2\(x2\),1 processes .* --ntasks-per-node"):
        world(devices="auto")


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"devices": 3, "slots_per_step": 8}, r"8 micro-batches .* 3 devices; .*slots_per_step=9"),
        ({"devices": [0]}, "no GPU here"),
        ({"devices": 5, "gpus": 4}, "this machine has 4 GPUs"),
        ({"devices": [4], "gpus": 4}, "this machine has 4 GPUs"),
    ],
)
def test_contradictions_are_told(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        world(**asked)


def test_an_accumulation_that_changes_the_recipe_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert world(accumulate_grad_batches=2, slots_per_step=8).slots_per_step == 2
    assert "steps of 2 micro-batches, not data.slots_per_step=8" in capsys.readouterr().err


def test_the_network_interface_is_told_to_gloo_and_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "before")
    use_network_interface(None, gloo_between_hosts=True)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "before"
    use_network_interface("lo", gloo_between_hosts=True)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    assert os.environ["NCCL_SOCKET_IFNAME"] == "=lo"
    with pytest.raises(UserError, match=r"trainer\.network_interface=ib7: .* has .*lo"):
        use_network_interface("ib7", gloo_between_hosts=False)


def test_a_group_that_is_left_has_no_threads(tmp_path: Path) -> None:
    """One that runs on as Python ends may abort the process."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    torch.distributed.all_reduce(torch.ones(1))
    assert "pt_gloo_runloop" in threads()
    leave_ranks()
    assert not torch.distributed.is_initialized()
    assert "pt_gloo_runloop" not in threads()
    leave_ranks()  # nothing left to leave


def threads() -> set[str]:
    return {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
