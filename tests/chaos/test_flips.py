"""The short form of `flips.py`."""

from __future__ import annotations

import random
from pathlib import Path

from chaos import flips


def test_every_flipped_bit_is_found() -> None:
    assert flips.main(["--count", "10"]) == 0


def test_what_nobody_checks_is_told(tmp_path: Path) -> None:
    """A test of the test."""
    file = tmp_path / "x"
    file.write_bytes(bytes(100))
    assert len(flips.missed([file], lambda file: None, 5, random.Random(0))) == 5
    assert file.read_bytes() == bytes(100)
