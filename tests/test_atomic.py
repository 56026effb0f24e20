"""Files are whole or absent, however their writer ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xlm_lightning.atomic import TEMPORARY_PREFIX

_WRITER = """
import sys, threading
from pathlib import Path
from xlm_lightning.atomic import atomic_write, end_process

def write(number):
    while True:
        with atomic_write(Path(sys.argv[1], str(number))) as file:
            for _ in range(20):
                file.write(bytes(100_000))
            if number == 1:
                begun.set()

begun = threading.Event()
for number in (1, 2):
    threading.Thread(target=write, args=(number,), daemon=True).start()
begun.wait()
end_process(3)
"""


@pytest.mark.parametrize("attempt", range(5))
def test_a_process_that_is_ended_leaves_no_temporary_file(tmp_path, attempt):
    ended = subprocess.run([sys.executable, "-c", _WRITER, tmp_path], timeout=60)
    assert ended.returncode == 3
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))
    assert all(file.stat().st_size == 2_000_000 for file in tmp_path.iterdir())
