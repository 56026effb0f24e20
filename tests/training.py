"""A short training on crumbs of text, and how two of them are compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

STEPS = 60
MEASURED = {  # logged figures of the machine, never the same twice
    "train/tokens_per_second",
    "train/teraflops_per_second",
    "train/model_flop_utilisation",
    "train/cpu_cores_used",
    "train/gpu_memory_gb",
}
WORDS = (
    "experiment=debug",
    "trainer.accelerator=cpu",
    "trainer.precision=32",  # in bf16 the weights of one and two processes differ by 0.2 %
    "model.dropout=0.1",
    "model.attention_dropout=0.1",
    "data.batch_size=2",
    "data.stream_length=32",
    "data.slots_per_step=4",
    "data.max_valid_tokens=300",
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=30",
    "checkpoint.every_n_steps=5",
    "callbacks.samples.new_tokens=0",
)


def weights(folder: Path) -> torch.Tensor:
    """All weights of a run's end."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return torch.cat([tensor.double().flatten() for tensor in checkpoint["state_dict"].values()])


def summary(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return read


def logged_steps(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [row["step"] for row in csv.DictReader(file)]


def assert_the_same_training(folder: Path, reference: Path, within: float = 1e-5) -> None:
    """Weights at most so far apart: another number of processes adds in another order."""
    ours, theirs = weights(folder), weights(reference)
    difference = float((ours - theirs).norm() / theirs.norm())
    assert difference < within
    mine, other = summary(folder), summary(reference)
    assert mine["status"] == "finished"
    for name in ("steps", "tokens_seen"):
        assert mine[name] == other[name]
    for language in ("de", "en"):
        assert mine["valid"][language]["tokens"] == other["valid"][language]["tokens"]
        expected = pytest.approx(other["valid"][language]["perplexity"], rel=1e-4)
        assert mine["valid"][language]["perplexity"] == expected
