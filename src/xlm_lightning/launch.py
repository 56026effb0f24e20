"""The processes of a run: who starts them, how many there are, and what each adds to a step."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import signal
import socket
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from xlm_lightning import slurm
from xlm_lightning.errors import RunFailed, UserError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PROCESSES_OF_A_CORE = 8  # a try of many ranks on few cores is slow; more would end in swap
NO_SHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


@dataclass(frozen=True)
class World:
    """As many processes as devices, on each node."""

    devices: int | list[int]  # on a node; a list: the indices of its GPUs
    num_nodes: int
    accumulate_grad_batches: int  # micro-batches of each process in an optimizer step

    @property
    def size(self) -> int:
        """Processes of the whole run."""
        devices = self.devices
        return (len(devices) if isinstance(devices, list) else devices) * self.num_nodes

    @property
    def slots_per_step(self) -> int:
        """Micro-batches of all processes in an optimizer step."""
        return self.size * self.accumulate_grad_batches


@dataclass(frozen=True)
class Launch:
    """Processes that another program has started, of which this is one."""

    program: str
    devices: int  # processes on each node
    num_nodes: int


def launched() -> Launch | None:
    """Return what torchrun or srun has started, None where Lightning starts the processes."""
    variables = os.environ
    if "TORCHELASTIC_RUN_ID" in variables:
        devices = int(variables["LOCAL_WORLD_SIZE"])
        return Launch("torchrun", devices, int(variables["WORLD_SIZE"]) // devices)
    if slurm.STEP in variables:
        devices, num_nodes = slurm.step_size()
        # one process is as good as none: in `srun --pty bash` Lightning may start more
        return None if devices * num_nodes == 1 else Launch("srun", devices, num_nodes)
    slurm.require_srun()
    if "RANK" in variables and variables.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            f"RANK={variables['RANK']} of WORLD_SIZE={variables['WORLD_SIZE']} is not of torchrun "
            "or srun: let torchrun start the processes, or unset both"
        )
    return None


def _say_what_restarts_need() -> None:
    """After a restart the ranks may find each other's old addresses in torchrun's store.

    They then fail to connect (pytorch issue 135712; here after 3 of 12 kills). The store is shared
    unless torchrun itself is told otherwise, which its workers are too late for.
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if restarts and os.environ.get(NO_SHARED_STORE) != "1" and os.environ.get("RANK") == "0":
        print(
            f"torchrun --max-restarts={restarts}: restarts succeed for certain only with "
            f"{NO_SHARED_STORE}=1 in torchrun's environment",
            file=sys.stderr,
        )


def world_of(
    *,
    devices: int | list[int] | str,
    num_nodes: int | str,
    gpus: int | None,
    accumulate_grad_batches: int | None,
    slots_per_step: int | None,
) -> World:
    """Settle how many processes there are and how many micro-batches each adds to a step.

    `devices`: `auto` is all that the launcher has started, else all GPUs of the node, or one CPU
    process; `num_nodes`: `auto` is the launcher's, else 1. `gpus`: how many this node has, None on
    a CPU. `slots_per_step`, where given, is shared out to the processes, unless
    `accumulate_grad_batches` says what each one takes. Raises `UserError` where the numbers
    contradict the machine, the launcher or each other.
    """
    started = launched()
    if started is None:
        chosen = (gpus or 1) if isinstance(devices, str) else devices
        nodes = 1 if isinstance(num_nodes, str) else num_nodes
    else:
        chosen = started.devices if isinstance(devices, str) else devices
        nodes = started.num_nodes if isinstance(num_nodes, str) else num_nodes
        _check_launch(World(chosen, nodes, 1), started)
        if started.program == "torchrun":
            _say_what_restarts_need()
    _check_devices(chosen, gpus)
    world = World(chosen, nodes, accumulate_grad_batches or 1)
    if slots_per_step is None or slots_per_step == world.slots_per_step:
        return world
    if accumulate_grad_batches is None:
        return World(chosen, nodes, _share(slots_per_step, world.size))
    print(
        f"trainer.accumulate_grad_batches={accumulate_grad_batches} on {world.size} devices makes "
        f"steps of {world.slots_per_step} micro-batches, not data.slots_per_step={slots_per_step}",
        file=sys.stderr,
    )
    return world


def _check_launch(world: World, started: Launch) -> None:
    there = World(started.devices, started.num_nodes, 1)
    if world.size != there.size or world.num_nodes != there.num_nodes:
        raise UserError(
            f"{started.program} has started {started.devices} processes on each of "
            f"{started.num_nodes} nodes, but the configuration asks for {world.size} on "
            f"{world.num_nodes}; say trainer.devices={started.devices} "
            f"trainer.num_nodes={started.num_nodes}, or auto for both"
        )


def _check_devices(devices: int | list[int], gpus: int | None) -> None:
    """What the schema cannot know: which devices this machine has."""
    if gpus is None:
        if isinstance(devices, list):
            raise UserError(
                f"trainer.devices={devices}: there is no GPU here; on a CPU say how many processes"
            )
        most = _PROCESSES_OF_A_CORE * (os.cpu_count() or 1)
        if devices > most:
            raise UserError(
                f"trainer.devices={devices}: must be at most {most} on {os.cpu_count()} CPU cores"
            )
        return
    wanted = max(devices) + 1 if isinstance(devices, list) else devices
    if wanted > gpus:
        raise UserError(f"trainer.devices={devices}: this machine has {gpus} GPUs")


def _share(slots_per_step: int, processes: int) -> int:
    share, left = divmod(slots_per_step, processes)
    if left:
        raise UserError(
            f"data.slots_per_step={slots_per_step} micro-batches cannot be shared out evenly to "
            f"{processes} devices; say data.slots_per_step={(share + 1) * processes}, or take "
            f"another number of devices"
        )
    return share


# --- the end of the program that started us -------------------------------------------------------
def end_with_parent(number: signal.Signals) -> bool:
    """Ask the kernel for a signal when our parent dies; False where only Linux offers it."""
    if not sys.platform.startswith("linux"):
        return False
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    return True


def end_with_starter() -> None:
    """Leave no process of a run behind whose starter has been killed.

    torchrun puts its workers in sessions of their own, where they would train on: they save and
    end. A rank that Lightning has started, which is a child of rank 0, has nothing to save.
    """
    started = launched()
    if started is not None and started.program == "torchrun":
        end_with_parent(signal.SIGTERM)
    elif started is None and "LOCAL_RANK" in os.environ:
        end_with_parent(signal.SIGKILL)


# --- the network between hosts --------------------------------------------------------------------
def leave_ranks() -> None:
    """Leave the group of a run that has ended well, before Python itself ends.

    A thread of gloo that lets go of its last tensor then asks an interpreter that is no more, and
    the process is aborted (2 of about 60 two-process runs on two busy cores).
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        gc.collect()  # the Trainer is in cycles, and in it what holds the group
        distributed.destroy_process_group()


def use_network_interface(name: str | None, *, gloo_between_hosts: bool) -> None:
    """Let gloo (CPU) and NCCL (GPU) talk through one of this host's network interfaces.

    Raises UserError for one that this host lacks, and for none where gloo would offer its loopback.
    """
    here = ", ".join(interface for _, interface in socket.if_nameindex())
    host = socket.gethostname()
    if name is None:
        if gloo_between_hosts and "GLOO_SOCKET_IFNAME" not in os.environ:
            _check_own_address(host, here)
        return
    if name not in here.split(", "):
        raise UserError(f"trainer.network_interface={name}: {host} has {here}")
    os.environ["GLOO_SOCKET_IFNAME"] = name
    os.environ["NCCL_SOCKET_IFNAME"] = f"={name}"  # else NCCL takes all whose names begin so


def _check_own_address(host: str, interfaces: str) -> None:
    """Gloo offers the address of the host's own name; others try it for five times the timeout."""
    try:
        address = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return
    if ip_address(address).is_loopback:
        raise UserError(
            f"{host} is {address} to itself, where no other host reaches it; say through which "
            f"network they do: trainer.network_interface=NAME, of {interfaces} (lo where all are "
            "this machine)"
        )


# gloo has no exception of its own; its messages begin with a place in its source
_GLOO = re.compile("gloo|Application timeout|Connection (closed|reset) by peer", re.IGNORECASE)
_PLACE = re.compile(r"\[/\S+\] ")


def lost_contact(
    error: Exception, timeout_seconds: int, run_dir: Path
) -> RunFailed | UserError | None:
    """Return what to tell of an exception with which torch says that a process does not answer.

    None for other exceptions. A port that is taken is the user's to change.
    """
    from torch.distributed import DistError  # the door asks who has started it, without torch

    told = str(error)
    from_gloo = isinstance(error, RuntimeError) and _GLOO.search(told)
    if not (from_gloo or isinstance(error, DistError)):
        return None
    reason = _PLACE.sub("", told).partition("\n")[0].partition(". ")[0]
    if "EADDRINUSE" in told:
        port = os.environ.get("MASTER_PORT")
        return UserError(f"MASTER_PORT={port} is in use on this machine; say another, or none")
    if "connectFullMesh" in told:
        reason = (
            f"the processes of this run do not reach each other ({reason}); where hosts have "
            "several networks, trainer.network_interface=NAME says which one"
        )
    else:
        reason = (
            "another process of this run is gone, or silent for longer than "
            f"trainer.timeout_seconds={timeout_seconds} ({reason});"
        )
    return RunFailed(f"{reason}\nwith run.dir={run_dir} it goes on from its last checkpoint")
