"""The built wheel in a fresh virtual environment, from another folder."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from commands import environment

ROOT = Path(__file__).resolve().parent.parent
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def execute(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_wheel_holds_everything_and_works_from_any_folder(tmp_path: Path) -> None:
    execute(sys.executable, *PIP, "wheel", "--no-deps", "-w", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("xlm_lightning-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name.removeprefix("xlm_lightning/conf/") for name in names if "/conf/" in name}
    conf = ROOT / "conf"
    assert packed == {str(path.relative_to(conf)) for path in conf.rglob("*.yaml")}
    assert {f"data_prep/{p.relative_to(ROOT / 'data_prep')}" for p in data_files()} <= set(names)
    for template in ("card", "language_model", "translator"):
        assert f"xlm_lightning/model_card/{template}.md.jinja" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]

    execute(sys.executable, "-m", "venv", "fresh", cwd=tmp_path)
    python = tmp_path / "fresh" / "bin" / "python"
    # Without fastBPE, as after a plain `pip install`: BPE goes through tokenizers.
    execute(python, *PIP, "install", "-c", ROOT / "constraints.txt", "torch", wheel, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = tmp_path / "fresh" / "bin" / "xlm-train"
    stdout = execute(script, "experiment=debug", "trainer.accelerator=cpu", cwd=elsewhere)
    summary = json.loads(stdout.splitlines()[-1])
    assert summary["status"] == "finished"
    assert (elsewhere / summary["run_dir"] / "summary.json").is_file()


def data_files() -> list[Path]:
    """Everything of data_prep that is no cache."""
    files = (ROOT / "data_prep").rglob("*")
    return [path for path in files if path.is_file() and "__pycache__" not in path.parts]
