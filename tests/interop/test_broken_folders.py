"""Both judges of a folder see each of the sixteen ways to break one, else they prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from breaking import WAYS
from building import Exported, copy_of
from parity import ask_oracle, differences


@pytest.mark.parametrize("way", WAYS)
def test_our_judge_sees_it(exported: Exported, tmp_path: Path, way: str) -> None:
    folder = copy_of(exported.folder, tmp_path / "broken")
    WAYS[way](folder)
    assert next(differences(folder, exported.trained, seed=3), None) is not None


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("way", WAYS)
def test_the_oracle_sees_it(oracle: Path, exported: Exported, tmp_path: Path, way: str) -> None:
    folder = copy_of(exported.folder, tmp_path / "broken")
    WAYS[way](folder)
    code, said = ask_oracle(oracle, folder)
    assert code == 1, said
