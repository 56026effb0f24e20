"""Energy of a run: added up over its starts and machines, and nothing left about it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import SCRIPTS, environment, run
from crumbs import crumbs_of
from in_process import call
from training import WORDS, summary

from xlm_lightning.energy_meter import EnergyMeter, visible_gpu_ids

PARTS = ("cpu_kwh", "ram_kwh", "gpu_kwh")
GERMANY = ("carbon=true", "energy.country=DEU")


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (*WORDS, f"data.dir={crumbs_of(prepared)}", "schedule.warmup_steps=0", *GERMANY)


def energy(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = summary(folder)["energy"]
    assert told["kwh"] == pytest.approx(sum(told[part] for part in PARTS))
    assert told["kg_co2eq"] == pytest.approx(told["kwh"] * 0.38095, rel=1e-6)  # Germany's mean
    rate = told["kwh"] / told["tokens"] * 1e6
    assert told["kwh_per_million_tokens"] == pytest.approx(rate)
    return told


def saved(folder: Path) -> dict[str, Any]:
    """What the last checkpoint holds of it."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    state: dict[str, Any] = checkpoint["callbacks"]["Energy"]
    return state


def memory_watts(told: dict[str, Any]) -> float:
    """codecarbon takes a machine's memory to use the same power all the time."""
    return float(told["ram_kwh"] / told["seconds"] * 3.6e6)


@pytest.mark.slow
def test_a_run_that_goes_on_adds_up(words: tuple[str, ...], tmp_path: Path) -> None:
    words = (*words, f"run.dir={tmp_path}", "trainer.val_check_interval=5")
    call("xlm-train", *words, "trainer.max_steps=10").expect()
    first, at_its_end = energy(tmp_path), saved(tmp_path)
    assert at_its_end["used"]["kwh"] == pytest.approx(first["kwh"], rel=0.2)
    call("xlm-train", *words, "trainer.max_steps=20").expect()
    both = energy(tmp_path)
    assert both["tokens"] == 2 * first["tokens"] == summary(tmp_path)["tokens_seen"]
    assert both["seconds"] > at_its_end["seconds"]
    for part in ("kwh", "cpu_kwh", "ram_kwh"):
        assert both[part] > at_its_end["used"][part] > 0
    assert memory_watts(both) == pytest.approx(memory_watts(first), rel=0.1)
    assert "missing" not in both
    with (tmp_path / "metrics.csv").open(newline="") as file:
        logged = [float(row["energy/kwh"]) for row in csv.DictReader(file) if row["energy/kwh"]]
    assert len(logged) == 4
    assert logged == sorted(logged)
    assert logged[1] <= at_its_end["used"]["kwh"] < logged[2]


@pytest.mark.slow
def test_a_run_that_is_measured_from_its_second_start_on(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*words, f"run.dir={tmp_path}")
    call("xlm-train", *words, "trainer.max_steps=5", "carbon=false").expect()
    assert "energy" not in summary(tmp_path)
    call("xlm-train", *words, "trainer.max_steps=15").expect()
    assert 3 * energy(tmp_path)["tokens"] == 2 * summary(tmp_path)["tokens_seen"]


@pytest.mark.slow
def test_what_a_kill_has_lost_is_told(words: tuple[str, ...], tmp_path: Path) -> None:
    """And in a process of its own: no file but those of the run, no words of codecarbon's."""
    place, folder = tmp_path / "cwd", tmp_path / "run"
    place.mkdir()
    words = (*words, f"run.dir={folder}", "trainer.max_steps=2000", "trainer.val_check_interval=9")
    with subprocess.Popen(
        [str(SCRIPTS / "xlm-train"), *words],
        cwd=place,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while not list(folder.glob("checkpoints/step-0000001*.ckpt.sha256")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    before = saved(folder)
    assert not before["is_end_of_a_start"]
    steps = (
        f"trainer.max_steps={torch.load(folder / 'checkpoints' / 'last.ckpt')['global_step'] + 5}"
    )
    outcome = run("xlm-train", *words, steps, cwd=place).expect()
    told = energy(folder)
    assert told["kwh"] > before["used"]["kwh"] > 0
    assert told["missing"].endswith("is not counted (occasions: 1).")
    assert list(place.iterdir()) == []
    for word in ("codecarbon", "nvml", "Warning", "Multiple instances"):
        assert word not in outcome.stderr


@pytest.mark.slow
def test_a_machine_is_counted_once_however_many_processes_it_runs(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    meter = EnergyMeter("DEU", [])
    meter.start()
    time.sleep(1)
    alone = memory_watts({**meter.read(), "seconds": meter.seconds})
    meter.stop()
    ddp = ("trainer=ddp_cpu", "trainer.devices=2", "trainer.max_steps=20")
    run("xlm-train", *words, *ddp, f"run.dir={tmp_path}").expect()
    told = energy(tmp_path)
    assert memory_watts(told) == pytest.approx(alone, rel=0.15)
    assert told["tokens"] == summary(tmp_path)["tokens_seen"]


@pytest.mark.parametrize(
    ("country", "hint"), [("Germany", "'DEU'"), ("deu", "'DEU'"), ("XYZ", "such as DEU or USA.")]
)
def test_a_country_that_is_none(prepared: Path, tmp_path: Path, country: str, hint: str) -> None:
    wrong = (
        *WORDS,
        f"data.dir={prepared}",
        "carbon=true",
        f"energy.country={country}",
        f"run.dir={tmp_path / 'run'}",
    )
    said = call("xlm-train", *wrong).expect(2).stderr
    assert said.startswith(f"xlm-train: energy.country={country}: must be the three letters")
    assert hint in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("visible", "named"),
    [("", ["0", "2"]), ("4,5,7", ["4", "7"]), ("GPU-a, GPU-b ,GPU-c", ["GPU-a", "GPU-c"])],
)
def test_gpus_have_the_names_that_the_machine_gives_them(
    monkeypatch: pytest.MonkeyPatch, visible: str, named: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpu_ids([0, 2]) == named


def test_without_codecarbon(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    said = (
        call("xlm-train", *WORDS, f"data.dir={prepared}", *GERMANY, f"run.dir={tmp_path / 'run'}")
        .expect(2)
        .stderr
    )
    assert "carbon=true needs codecarbon: pip install 'xlm-lightning[carbon]'" in said
