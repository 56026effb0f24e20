"""The kill test in its short form, and whether it finds what it is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment

HERE = Path(__file__).parent


def run_program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=HERE,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )


def test_a_killed_run_ends_as_an_undisturbed_one() -> None:
    done = run_program("kills.py", "--kills", "2")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [(), ("trainer.precision=bf16-mixed", "data.workers=2"), ("objective=unmt",)]
)
@pytest.mark.parametrize(("ranks", "kills"), [("1", "5"), ("2", "3")])
def test_many_kills(ranks: str, kills: str, words: tuple[str, ...]) -> None:
    done = run_program("kills.py", "--kills", kills, "--ranks", ranks, "--seed", "5", *words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        ("random_dropout", 3, "two undisturbed runs differ"),
        ("new_data_order", 1, "steps of data are consumed after"),  # the run itself sees it
        ("optimizer_forgotten", 1, "differs: "),
        ("stops_saving", 1, "steps are done again"),
        ("leaves_without_an_end", 1, "a resume ended with 1"),
    ],
)
def test_the_kill_test_finds_faults(fault: str, code: int, told: str) -> None:
    done = run_program("sabotage.py", fault, "--kills", "4")
    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stdout
