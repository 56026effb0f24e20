"""A full disk under a training, in the short form; root only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster.namespaces import skip_without
from commands import environment


@pytest.mark.parametrize("runs", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_full_disk_leaves_whole_checkpoints(runs: int) -> None:
    skip_without(["mount", "umount", "unshare"])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("full_disk.py")), f"--count={runs}"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
