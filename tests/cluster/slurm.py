"""A real SLURM on this host: one controller and two nodes, n1 and n2, for as long as a test needs.

All of it lives below one folder and in a namespace whose hosts file names the nodes, and ends with
that, job steps too. Needs root and the Debian packages slurmctld, slurmd, slurm-client and munge.
"""

from __future__ import annotations

import os
import platform
import random
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.namespaces import PATH, Namespace, namespace
from commands import environment

NODES = ("n1", "n2")
CORES = 2  # of each node, as far as SLURM knows
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")

# cred_expire is also how long SLURM lets a requeued job wait: two minutes unless told otherwise.
_CONF = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
FirstJobId={first_job}
KillWait=10
MinJobAge=3600
MessageTimeout=60
{nodes}
PartitionName=lab Nodes={names} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""


@dataclass(frozen=True)
class Slurm:
    """A running SLURM. Its commands find it by their environment."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it, whose nodes are this machine, beside what all have."""
        here = {"SLURM_CONF": str(self.folder / "slurm.conf"), "GLOO_SOCKET_IFNAME": "lo"}
        return environment() | here

    def call(
        self, *words: str, cwd: Path | None = None, timeout: float = 300, **variables: str
    ) -> str:
        """Run a command of SLURM's to its end and return what it prints."""
        done = subprocess.run(
            words,
            cwd=cwd,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stderr}"
        return done.stdout

    def submit(self, *words: str, cwd: Path, **variables: str) -> str:
        """Submit a batch job, which gets the environment of its submission; return its id."""
        return self.call("sbatch", "--parsable", *words, cwd=cwd, **variables).strip()

    def fields(self, job: str) -> dict[str, str]:
        """What SLURM says of a job, such as JobState, Restarts and ExitCode."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.call("scontrol", "show", "job", job)))

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED ..."""
        return self.fields(job)["JobState"]

    def wait(
        self, job: str, happened: Callable[[], bool] | None = None, timeout: float = 300
    ) -> None:
        """Wait until `happened`, or, by default, until the job has ended."""
        running = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED")
        deadline = time.monotonic() + timeout

        def ended() -> bool:
            if self.state(job) in running:
                return False
            time.sleep(2)  # a job that goes back into the queue has for a moment ended
            return self.state(job) not in running

        while not (happened or ended)():
            assert time.monotonic() < deadline, self.call("scontrol", "show", "job", job)
            assert happened is None or self.state(job) in running, self.fields(job)
            time.sleep(0.2)


@contextmanager
def slurm_in(folder: Path) -> Iterator[Slurm]:
    """Start SLURM with all its files in `folder`; all its processes end with the block."""
    _write_files(folder)
    slurm = Slurm(folder)
    with namespace(hosts=folder / "hosts") as inside:
        _start(inside, _MUNGED.format(folder=folder), slurm)
        _wait_for((folder / "munge.socket").exists, folder)
        _start(inside, "slurmctld -D", slurm)
        for node in NODES:
            _start(inside, f"slurmd -D -N {node}", slurm)
        _wait_for(lambda: _idle(slurm) == len(NODES), folder)
        yield slurm


_MUNGED = (
    "munged --foreground --force --key-file={folder}/munge.key --socket={folder}/munge.socket "
    "--pid-file={folder}/munge.pid --log-file={folder}/munge.log --seed-file={folder}/munge.seed"
)


def _write_files(folder: Path) -> None:
    ports = _free_ports(1 + len(NODES))
    nodes = [
        f"NodeName={name} NodeHostname={platform.node()} NodeAddr=127.0.0.1 Port={port} "
        f"CPUs={CORES} RealMemory=1000 State=UNKNOWN"
        for name, port in zip(NODES, ports[1:], strict=True)
    ]
    conf = _CONF.format(
        folder=folder,
        host=platform.node(),
        controller_port=ports[0],
        first_job=random.SystemRandom().randrange(1000, 9000),  # Lightning's port comes from it
        nodes="\n".join(nodes),
        names=",".join(NODES),
    )
    (folder / "slurm.conf").write_text(conf)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    known = Path("/etc/hosts").read_text() if Path("/etc/hosts").exists() else ""
    (folder / "hosts").write_text(known + "".join(f"127.0.0.1 {name}\n" for name in NODES))


def _start(inside: Namespace, command: str, slurm: Slurm) -> None:
    subprocess.Popen(
        inside.words(*command.split()),
        env=slurm.environment | {"PATH": PATH},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _idle(slurm: Slurm) -> int:
    words = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N %t"]
    said = subprocess.run(
        words, env=slurm.environment, capture_output=True, text=True, check=False
    ).stdout
    return len(re.findall(r" idle$", said, re.MULTILINE))


def _wait_for(happened: Callable[[], bool], folder: Path, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not happened():
        told = "\n".join(log.read_text()[-2000:] for log in sorted(folder.glob("*.log")))
        assert time.monotonic() < deadline, f"SLURM did not come up\n{told}"
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
