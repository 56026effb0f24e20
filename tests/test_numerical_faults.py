"""Losses and gradients that are not finite: a step is skipped, many in a row end the run."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from crumbs import crumbs_of
from in_process import call
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor
from training import MEASURED, WORDS, summary

from xlm_lightning.checkpoint import newest_whole, read_checkpoint
from xlm_lightning.model import XLM

BAD_STEP = 5


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (
        *WORDS,
        f"data.dir={crumbs_of(prepared)}",
        "trainer.max_steps=12",
        "trainer.val_check_interval=4",
        "checkpoint.every_n_steps=3",
        "schedule.warmup_steps=0",
        "trainer.log_every_n_steps=1",
        "data.slots_per_step=1",
    )


def poison(monkeypatch: pytest.MonkeyPatch, bad_steps: range, kind: str) -> None:
    """Let the loss, or the gradient alone, be broken in some training steps (from 0)."""
    whole = XLM.loss
    count = -1

    def broken(self: XLM, *arguments: Any) -> Tensor:
        nonlocal count
        loss = whole(self, *arguments)
        if not self.training:
            return loss
        count += 1
        if count not in bad_steps:
            return loss
        if kind == "gradient":
            loss.register_hook(lambda gradient: gradient * torch.inf)
            return loss
        if kind == "infinite loss":  # whose gradient is finite
            return loss + torch.inf
        return loss * torch.nan

    monkeypatch.setattr(XLM, "loss", broken)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["loss", "infinite loss", "gradient"])
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_one_bad_step_is_skipped_and_told(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    precision: str,
) -> None:
    """Weights and optimizer stay, the learning rate does not move, the data does."""
    poison(monkeypatch, range(BAD_STEP, BAD_STEP + 1), kind)
    folder = tmp_path / "run"
    outcome = call(
        "xlm-train", *words, f"trainer.precision={precision}", f"run.dir={folder}"
    ).expect()
    assert outcome.result["steps"] == 12
    assert outcome.result["skipped_steps"] == 1
    assert f"step {BAD_STEP + 1}: a loss or gradient is not finite" in outcome.stderr
    checkpoint = read_checkpoint(newest_whole(folder / "checkpoints"))
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
    states = checkpoint["optimizer_states"][0]["state"].values()
    assert {int(state["step"]) for state in states} == {11}
    assert checkpoint["lr_schedulers"][0]["last_epoch"] == 11
    assert checkpoint["StreamingDataModule"]["slot"] == 12
    told = [row for row in rows(folder) if row["train/skipped_steps"]]
    assert [(row["step"], row["train/skipped_steps"]) for row in told] == [("6", "1")]


def test_bad_steps_in_a_row_end_the_run_and_the_good_checkpoints_stay(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, range(BAD_STEP, 1000), "loss")
    folder = tmp_path / "run"
    outcome = call(
        "xlm-train", *words, "callbacks.max_skipped_steps=5", f"run.dir={folder}"
    ).expect(1)
    assert "5 steps in a row had a loss or gradient that is not finite" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert summary(folder)["status"] == "failed"
    assert newest_whole(folder / "checkpoints").name == "step-00000003.ckpt"
    monkeypatch.undo()
    again = call("xlm-train", f"run.dir={folder}").expect()
    assert (again.result["steps"], again.result["skipped_steps"]) == (12, 0)


def test_bad_steps_with_good_ones_between_them_go_on(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, range(1, 12, 2), "loss")
    limit = "callbacks.max_skipped_steps=2"
    outcome = call("xlm-train", *words, limit, f"run.dir={tmp_path / 'run'}").expect()
    assert outcome.result["skipped_steps"] == 6


def test_weights_that_are_not_finite_are_never_kept(words: tuple[str, ...], tmp_path: Path) -> None:
    """A step of 1e38 in each direction: finite gradients, weights beyond the largest number."""
    folder = tmp_path / "run"
    rate = ("optimizer.lr=3e38", "trainer.val_check_interval=100", "optimizer.weight_decay=9")
    outcome = call("xlm-train", *words, *rate, f"run.dir={folder}").expect(1)
    assert "not finite" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not list(folder.glob("checkpoints/*.ckpt"))


def test_a_spike_of_the_gradient_is_told(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, count = XLM.loss, 0

    def spiked(self: XLM, *arguments: Any) -> Tensor:
        nonlocal count
        count += self.training
        loss = whole(self, *arguments)
        if self.training and count == 110:
            loss.register_hook(lambda gradient: gradient * 1000)
        return loss

    monkeypatch.setattr(XLM, "loss", spiked)
    long = ("trainer.max_steps=112", "trainer.val_check_interval=112", "data.stream_length=8")
    outcome = call("xlm-train", *words, *long, f"run.dir={tmp_path / 'run'}").expect()
    assert "step 110: the gradient norm is " in outcome.stderr
    assert outcome.stderr.count("the gradient norm is") == 1
    (told,) = [row for row in rows(tmp_path / "run") if row["train/gradient_norm_spikes"]]
    assert (told["step"], told["train/gradient_norm_spikes"]) == ("110", "1")


@pytest.mark.parametrize("accumulation", [1, 4])
def test_fp16_goes_on_with_its_scaler(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulation: int
) -> None:
    """On a CPU, where only a test asks for fp16: the scale, still being found, is resumed too."""

    def with_scaler(*arguments: Any, plugins: list[Any], precision: str, **more: Any) -> pl.Trainer:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
        plugins = [*plugins, MixedPrecision("16-mixed", "cpu", scaler)]
        return Trainer(*arguments, plugins=plugins, **more)

    Trainer = pl.Trainer
    monkeypatch.setattr(pl, "Trainer", with_scaler)
    more = (
        f"trainer.accumulate_grad_batches={accumulation}",
        f"data.slots_per_step={accumulation}",
        "checkpoint.keep_last=9",
    )
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    outcome = call("xlm-train", *words, *more, f"run.dir={whole}").expect()
    assert 1 <= outcome.result["skipped_steps"] <= 10
    shutil.copytree(whole, resumed, symlinks=True)
    for step in ("09", "12"):
        (resumed / "checkpoints" / f"step-000000{step}.ckpt").unlink()
    told = call("xlm-train", *words, *more, f"run.dir={resumed}").expect()
    assert "step-00000006.ckpt" in told.stderr
    ours, theirs = (read_checkpoint(newest_whole(x / "checkpoints")) for x in (resumed, whole))
    assert ours["MixedPrecision"] == theirs["MixedPrecision"]
    assert ours["MixedPrecision"]["scale"] < 2.0**20
    assert told.result["weights_sha256"] == outcome.result["weights_sha256"]
    assert rows_without_time(resumed) == rows_without_time(whole)


def rows_without_time(folder: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name not in MEASURED} for row in rows(folder)
    ]
