"""One training on two hosts: over the network, through a cut of it, after the loss of a host."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cluster.hosts import LINK, NAMES, Hosts, two_hosts
from cluster.namespaces import skip_without
from commands import SCRIPTS, Outcome
from crumbs import crumbs_of
from in_process import call
from processes import wait_until
from training import STEPS, WORDS, assert_the_same_training, summary

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (
        *WORDS,
        f"data.dir={crumbs_of(prepared)}",
        "trainer.devices=auto",
        f"trainer.max_steps={4 * STEPS}",  # long enough to be met in the middle
    )


def train(hosts: Hosts, words: Sequence[str]) -> list[subprocess.Popen[str]]:
    """Start an agent of torchrun on each host."""
    launch = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-id=pair", "--rdzv-backend=c10d"]
    command = [sys.executable, "-m", "torch.distributed.run", *launch]
    command += [f"--rdzv-endpoint={NAMES[0]}:29400", str(SCRIPTS / "xlm-train"), *words]
    return [hosts.start(host, *command) for host in range(2)]


def ends(agents: Sequence[subprocess.Popen[str]]) -> list[Outcome]:
    said = [agent.communicate(timeout=300) for agent in agents]
    return [Outcome(agent.returncode, *texts) for agent, texts in zip(agents, said, strict=True)]


@pytest.fixture(scope="module")
def undisturbed(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over a network that works."""
    skip_without(["ip"])
    folder = tmp_path_factory.mktemp("undisturbed")
    words = (*words, f"trainer.network_interface={LINK}", f"run.dir={folder / 'run'}")
    with two_hosts(folder) as hosts:
        for outcome in ends(train(hosts, words)):
            outcome.expect()
    return folder / "run"


def test_two_hosts(words: tuple[str, ...], undisturbed: Path, tmp_path: Path) -> None:
    call("xlm-train", *words, f"run.dir={tmp_path / 'alone'}").expect()
    assert summary(undisturbed)["world_size"] == 2
    # Roundings grow: 1e-6 after 60 steps, 1e-5 after these 240.
    assert_the_same_training(undisturbed, tmp_path / "alone", within=1e-4)


def test_a_network_that_was_not_named_is_told(words: tuple[str, ...], tmp_path: Path) -> None:
    """A host whose own name means its loopback would offer that to the other."""
    skip_without(["ip"])
    with two_hosts(tmp_path) as hosts:
        first, second = ends(train(hosts, [*words, f"run.dir={tmp_path / 'run'}"]))
    for host, outcome in zip(NAMES, (first, second), strict=True):
        assert outcome.code == 1  # torchrun's
        assert f"xlm-train: {host} is 127.0.1.1 to itself" in outcome.stderr
        assert f"trainer.network_interface=NAME, of lo, {LINK}" in outcome.stderr


def test_a_cut_shorter_than_the_timeout_costs_nothing(
    words: tuple[str, ...], undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = (*words, f"trainer.network_interface={LINK}", f"run.dir={folder}")
    last = folder / "checkpoints" / "last.ckpt"
    with two_hosts(tmp_path) as hosts:
        agents = train(hosts, words)
        wait_until(last.exists, agents[0])
        hosts.pull_cable()
        time.sleep(2)
        written = last.stat().st_mtime_ns
        time.sleep(4)
        assert last.stat().st_mtime_ns == written, "they trained on without a network"
        hosts.plug_cable()
        for outcome in ends(agents):
            outcome.expect()
    assert_equal_ends(folder, undisturbed)


def test_a_lost_host_costs_a_restart(
    words: tuple[str, ...], undisturbed: Path, tmp_path: Path
) -> None:
    """The other one gives up after the timeout; both started again end as if nothing had been."""
    folder = tmp_path / "run"
    words = (*words, f"trainer.network_interface={LINK}", f"run.dir={folder}")
    with two_hosts(tmp_path) as hosts:
        agents = train(hosts, [*words, "trainer.timeout_seconds=45"])
        wait_until((folder / "checkpoints" / "last.ckpt").exists, agents[0])
        hosts.pull_cable()
        hosts.inside[1].kill()
        first, _ = ends(agents)
    assert first.code == 1
    assert "silent for longer than trainer.timeout_seconds=45" in first.stderr
    assert summary(folder)["status"] == "failed"
    with two_hosts(tmp_path) as hosts:
        for outcome in ends(train(hosts, words)):
            outcome.expect()
    assert_equal_ends(folder, undisturbed)


def assert_equal_ends(folder: Path, undisturbed: Path) -> None:
    ours, theirs = summary(folder), summary(undisturbed)
    for name in ("status", "weights_sha256", "tokens_seen", "valid"):
        assert ours[name] == theirs[name]
