"""Two hosts on this machine: namespaces with names and networks of their own, and a cable."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.namespaces import PATH, Namespace, namespace
from commands import environment

LINK = "link0"  # the interface of each host at its end of the cable
NAMES = ("host0", "host1")
_ADDRESSES = ("10.77.0.1", "10.77.0.2")


@dataclass(frozen=True)
class Hosts:
    """Both hosts; they share the file system."""

    inside: tuple[Namespace, Namespace]

    def start(self, host: int, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start a process on a host."""
        return subprocess.Popen(
            self.inside[host].words(*words),
            env=environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pull_cable(self) -> None:
        """What is sent from now on is lost."""
        self._ip("link", "set", LINK, "down")

    def plug_cable(self) -> None:
        """Let traffic pass again."""
        self._ip("link", "set", LINK, "up")

    def _ip(self, *words: str) -> None:
        subprocess.run(self.inside[1].words("ip", *words), env={"PATH": PATH}, check=True)


@contextmanager
def two_hosts(folder: Path) -> Iterator[Hosts]:
    """Make hosts whose own names mean their loopback, as on Debian; files of theirs in `folder`."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(_host(folder, number)) for number in range(2))
        cable = (
            f"ip link add {LINK} netns {first.pid} type veth peer name {LINK} netns {second.pid}"
        )
        subprocess.run(cable.split(), env={"PATH": PATH}, check=True)
        for host, address in zip((first, second), _ADDRESSES, strict=True):
            for words in (f"addr add {address}/24 dev {LINK}", f"link set {LINK} up"):
                subprocess.run(host.words("ip", *words.split()), env={"PATH": PATH}, check=True)
        yield Hosts((first, second))


@contextmanager
def _host(folder: Path, number: int) -> Iterator[Namespace]:
    other = 1 - number
    lines = ["127.0.0.1 localhost", f"127.0.1.1 {NAMES[number]}"]
    lines.append(f"{_ADDRESSES[other]} {NAMES[other]}")
    hosts = folder / f"hosts.{number}"
    hosts.write_text("\n".join(lines) + "\n")
    name = f"echo {NAMES[number]} > /proc/sys/kernel/hostname"
    with namespace("net", "uts", hosts=hosts, script=f"{name}; ip link set lo up") as made:
        yield made
