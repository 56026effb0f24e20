"""Memory does not grow with the text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_preparation import arguments, make_text

PROGRAM = Path(__file__).with_name("prepare_process.py")
MEASURE = (
    "import resource, runpy, sys\n"
    "sys.argv[0] = {program!r}\n"
    "sys.path.insert(0, {folder!r})\n"
    "try:\n"
    "    runpy.run_path({program!r}, run_name='__main__')\n"
    "finally:\n"
    "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
)


def peak_megabytes(tmp_path: Path, copies: int) -> float:
    path = tmp_path / f"{copies}.txt"
    text = make_text(1, 20_000)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(copies):
            file.write(text)
    given = tmp_path / "arguments.json"
    everything = {
        "out": tmp_path / f"out{copies}",
        "files": {"train": {"de": [path]}},
        **arguments(shard_megabytes=1.0),
    }
    given.write_text(json.dumps(everything, default=str))
    program = MEASURE.format(program=str(PROGRAM), folder=str(PROGRAM.parent))
    ended = subprocess.run([sys.executable, "-c", program, given], capture_output=True, check=True)
    return int(ended.stderr.split()[-1]) / 1e3


@pytest.mark.slow
def test_ten_times_the_text_takes_no_more_memory(tmp_path):
    small, large = peak_megabytes(tmp_path, 5), peak_megabytes(tmp_path, 50)
    assert (tmp_path / "50.txt").stat().st_size > 4e7
    assert large < small + 20
