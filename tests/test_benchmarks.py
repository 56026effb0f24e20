"""Every comparison of bench/ runs and prints the lines that the contract promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import environment
from crumbs import crumbs_of

BENCH = Path(__file__).resolve().parent.parent / "bench"
SHORTEST = {
    "generate": ["--rounds=1", "--batches=2"],
    "loader": [],
    "logging_cost": ["--steps=2", "--rounds=1", "model.layers=1", "model.dim=32", "model.heads=2"],
    "loop": ["--steps=60", "--turns=1"],
    "masked": ["model.layers=1", "trainer.max_steps=2", "schedule.warmup_steps=1"],
    "prepare": [],
    "reliability": ["--steps=7"],
    "report": ["--rows=40"],
    "scale": ["--rounds=1", "--steps=2", "--shards=200", "--batches=40"],
    "translate": ["--rounds=1", "--beams=2"],
    "train_step": ["--rounds=1", "--shapes=small", "--precisions=fp32"],
}
KEYS = {"name", "ours", "peer", "peer_name", "ratio", "unit"}

pytestmark = pytest.mark.slow


def test_all_are_tried() -> None:
    assert {path.stem for path in BENCH.glob("*.py")} == set(SHORTEST)


@pytest.fixture
def words(prepared: Path, tmp_path: Path) -> dict[str, list[str]]:
    """What each one is called with; prepare needs text, masked a corpus."""
    text = tmp_path / "some.txt"
    text.write_text("".join(f"Er sagte: „Satz {i}“, und ging.\n" for i in range(20_000)))
    return SHORTEST | {
        "prepare": [f"de={text}"],
        "masked": [*SHORTEST["masked"], f"data.dir={crumbs_of(prepared)}"],
    }


@pytest.mark.parametrize("name", SHORTEST)
def test_a_benchmark_prints_what_it_promises(name: str, words: dict[str, list[str]]) -> None:
    if name == "prepare":
        pytest.importorskip("fastBPE")
    done = subprocess.run(
        [sys.executable, str(BENCH / f"{name}.py"), *words[name]],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    for line in lines:
        assert set(line) >= KEYS
        assert min(line["ours"], line["peer"], line["ratio"]) > 0
