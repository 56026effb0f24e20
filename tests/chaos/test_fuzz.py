"""The fuzzer in its short form, and whether it finds what it is for."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos import fuzz

from xlm_lightning.errors import UserError


@pytest.mark.slow
def test_no_damaged_file_ends_in_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--count", "69"]) == 0, capfd.readouterr().out


WHOLE = b"some words and 123 numbers, again and again " * 20


def careful(content: bytes) -> None:
    if content != WHOLE:
        raise UserError("it is damaged")


def careless(content: bytes) -> None:
    if b"\0" in content:
        raise KeyError("a key")


def lethal(content: bytes) -> None:
    if b"\0" in content:
        os.kill(os.getpid(), signal.SIGSEGV)


def trusting(content: bytes) -> str:
    return content.hex()


@pytest.mark.parametrize(
    ("reader", "told"),
    [
        (careful, ""),
        (careless, "KeyError at test_fuzz.py"),
        (lethal, "the process ended with -11"),
        (trusting, "accepted, though a checksum refutes it"),
    ],
)
def test_the_fuzzer_finds_faults(
    reader: Callable[[bytes], str | None], told: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(WHOLE)
    answers = fuzz.fuzz("a", fuzz.Kind(file, lambda: reader(file.read_bytes())), range(120), seed=0)
    assert len(answers) == 120
    faults = {answer for answer in answers.values() if answer not in ("refused", "accepted")}
    assert bool(faults) == bool(told)
    assert all(told in fault for fault in faults)
    assert file.read_bytes() == WHOLE


def test_the_same_seed_gives_the_same_damage() -> None:
    content = bytes(range(256)) * 4
    first, second = (
        [fuzz.damaged(content, random.Random(n)) for n in range(200)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 150
