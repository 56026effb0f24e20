"""A full disk under a training, in a short form; root only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster.namespaces import skip_without
from commands import SCRIPTS, environment
from crumbs import crumbs_of
from training import WORDS

pytestmark = pytest.mark.slow


def test_a_full_disk_leaves_whole_checkpoints() -> None:
    skip_without(["mount", "umount", "unshare"])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("full_disk.py")), "--count=12"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_disk_without_room_is_told_before_the_first_step(prepared: Path, tmp_path: Path) -> None:
    skip_without(["mount", "unshare"])
    words = [*WORDS, f"data.dir={crumbs_of(prepared)}", f"run.dir={tmp_path / 'run'}"]
    shell = f"mount -t tmpfs -o size=600k none {tmp_path} && exec {SCRIPTS / 'xlm-train'} "
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", shell + " ".join(words)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"run.dir={tmp_path / 'run'}: 0.6 MB are free, two checkpoints take 1." in done.stderr
