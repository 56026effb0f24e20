"""Linux namespaces for tests that need a host, or its network, to themselves. Root only.

A namespace lives as long as its first process. With that one go all processes in it, and with the
last of them its network and its mounts: nothing outlives a test, even one that is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def skip_without(programs: Sequence[str]) -> None:
    """Skip a test that runs these in a namespace where none can; with REQUIRE_CLUSTER it fails."""
    absent = [name for name in ("unshare", *programs) if shutil.which(name, path=PATH) is None]
    reason = f"not installed: {', '.join(absent)}" if absent else ""
    if os.geteuid() != 0:
        reason = "only root makes namespaces"
    if reason:
        assert "REQUIRE_CLUSTER" not in os.environ, reason
        pytest.skip(reason)


@dataclass(frozen=True)
class Namespace:
    """Processes with their own view of the machine: always of processes and mounts."""

    keeper: subprocess.Popen[str]
    kinds: tuple[str, ...]

    @property
    def pid(self) -> int:
        """Its first process, by the number that it has outside."""
        children = Path(f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children")
        (first,) = children.read_text().split()
        return int(first)

    def words(self, *command: str) -> list[str]:
        """Return the words that run a command inside."""
        return ["nsenter", f"--target={self.pid}", *(f"--{kind}" for kind in self.kinds), *command]

    def kill(self) -> None:
        """End all of its processes, as the loss of power would."""
        self.keeper.kill()
        self.keeper.wait()


@contextmanager
def namespace(*kinds: str, hosts: Path, script: str = ":") -> Iterator[Namespace]:
    """Make one with `hosts` for /etc/hosts. `kinds`: `net`, `uts`; `script` is run first, inside.

    Its first process is a shell, which also takes leave of orphans that have ended.
    """
    kinds = ("mount", "pid", *kinds)
    options = ["--fork", "--kill-child", "--mount-proc", *(f"--{kind}" for kind in kinds)]
    first = f"set -e; mount --bind {hosts} /etc/hosts; {script}; echo ready; sleep infinity & wait"
    keeper = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *options, "bash", "-c", first],
        env=os.environ | {"PATH": PATH},
        stdout=subprocess.PIPE,
        text=True,
    )
    made = Namespace(keeper, kinds)
    try:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n", "no namespace could be made"
        yield made
    finally:
        made.kill()
