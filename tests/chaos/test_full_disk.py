"""Checkpoints that do not fit on the disk: the run ends in two lines, the ones before are whole.

A file system of a few megabytes, in a namespace of its own that ends with the test. Root only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster.namespaces import skip_without
from commands import SCRIPTS, environment
from crumbs import crumbs_of
from training import WORDS

SHELL = "mount -t tmpfs -o size={size} none {folder} && exec {command}"
LOOK = """
import sys
from pathlib import Path
from xlm_lightning.checkpoint import newest_whole, read_whole
folder = Path(sys.argv[1], "run", "checkpoints")
for file in folder.glob("*.ckpt"):
    read_whole(file)
assert not list(folder.glob(".partial-*")), "a half-written file was left"
print(newest_whole(folder).name)
"""


@pytest.mark.parametrize(
    "kilobytes", [3000, *(pytest.param(n, marks=pytest.mark.slow) for n in (4100, 5200))]
)
def test_a_full_disk_leaves_whole_checkpoints(
    prepared: Path, tmp_path: Path, kilobytes: int
) -> None:
    skip_without(["mount"])
    words = [
        *WORDS,
        f"data.dir={crumbs_of(prepared)}",
        f"run.dir={tmp_path / 'run'}",
        "checkpoint.keep_last=100",
        "checkpoint.keep_best=0",
    ]
    command = f"{SCRIPTS / 'xlm-train'} {' '.join(words)}"
    look = f"{sys.executable} -c '{LOOK}' {tmp_path}"
    script = f"({command}; echo exit $? >&2); {look}"
    shell = SHELL.format(
        size=f"{kilobytes}k", folder=tmp_path, command=f"sh -c '{_nested(script)}'"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", shell],
        env=environment() | {"TMPDIR": "/tmp"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "exit 1" in done.stderr, done.stderr
    assert "could not be written: No space left on device; make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("step-")


def _nested(script: str) -> str:
    return script.replace("'", "'\\''")
