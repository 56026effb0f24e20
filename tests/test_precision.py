"""The precision that is used where it differs from the one asked for is said, not hidden."""

from __future__ import annotations

import pytest

from xlm_lightning import assembly


@pytest.mark.parametrize(
    ("asked", "has_bf16", "used", "notes"),
    [
        ("32", False, "32-true", []),
        ("16", True, "bf16-mixed", ["fp16 is emulated"]),
        ("16", False, "bf16-mixed", ["fp16 is emulated", "this CPU emulates bf16"]),
        ("bf16-mixed", False, "bf16-mixed", ["this CPU emulates bf16"]),
        ("bf16", True, "bf16-mixed", []),
    ],
)
def test_precision_on_a_cpu(
    asked: str,
    has_bf16: bool,
    used: str,
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(assembly, "cpu_has_bf16", lambda: has_bf16)
    assert assembly.choose_precision(asked, "cpu") == used
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(notes)
    assert all(note in line for note, line in zip(notes, lines, strict=True))
