"""Shared fixtures: the real corpora beside the checkout, where they exist."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
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
