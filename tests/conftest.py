"""Shared fixtures: the real corpora beside the checkout, a SLURM on this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from cluster.namespaces import skip_without
from cluster.slurm import PROGRAMS, Slurm, slurm_in
from commands import run

# The tests fill the cores by running side by side; before torch is loaded, here or in a command.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
CORPORA = ROOT.parent / "shared" / "corpora"


def pytest_configure() -> None:
    """Tests against fastBPE skip where it was not built; .ci/run must see them run."""
    if "REQUIRE_FASTBPE" in os.environ and not find_spec("fastBPE"):
        raise pytest.UsageError("fastBPE is not installed; see .venv/fastbpe.log")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of `{train,valid,test}.{en,de,fr,ro}.txt.gz`; the test is skipped without it."""
    if not CORPORA.is_dir():
        assert "REQUIRE_CORPORA" not in os.environ, f"no real corpora in {CORPORA}"
        pytest.skip("the real corpora are not beside this checkout")
    return CORPORA


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sample corpus, prepared once by the real command."""
    folder = tmp_path_factory.mktemp("prepared") / "tiny"
    run("xlm-prepare", "corpus=sample_tiny", f"out={folder}", cwd=folder.parent).expect()
    return folder


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM of two nodes on this host; the test is skipped where it cannot be started."""
    skip_without(PROGRAMS)
    with slurm_in(tmp_path_factory.mktemp("slurm")) as running:
        yield running
