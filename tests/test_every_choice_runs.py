"""Each experiment and each option of a group trains: two steps of a tiny model on crumbs of text.

What lies in conf/ decides what is run, so that a new file is covered without a word here.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from commands import Outcome, run
from crumbs import crumbs_of
from in_process import call

from xlm_lightning.overrides import options_of

TINY = (
    "model.layers=1",
    "model.dim=16",
    "model.heads=2",
    "data.batch_size=2",
    "data.stream_length=16",
    "data.workers=0",
    "data.max_valid_tokens=100",
    "data.sentence_tokens=100",
    "schedule.warmup_steps=1",
    "trainer.accelerator=cpu",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=1",
    "callbacks.samples.new_tokens=3",
)
ALONE = ("trainer.devices=1", "trainer.strategy=auto")
GROUPS = ("model", "objective", "optimizer", "schedule", "trainer", "logger", "callbacks", "debug")
OFFERED = {group: options_of(group) for group in GROUPS}
# The k-th run takes the k-th option of every group, so that few runs meet them all.
MIXTURES = [
    [f"{group}={names[k % len(names)]}" for group, names in OFFERED.items()]
    for k in range(max(map(len, OFFERED.values())))
]
CHOICES = [[f"experiment={name}"] for name in options_of("experiment")] + MIXTURES


@pytest.fixture(scope="module")
def crumbs(prepared: Path) -> Path:
    return crumbs_of(prepared)


def check_run(folder: Path, outcome: Outcome) -> None:
    """Two steps were made, logged, validated and saved."""
    assert outcome.result["status"] == "finished"
    assert outcome.result["steps"] == 2
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["train/loss"]] == ["1", "2"]
    assert [row["step"] for row in rows if row["valid/mean/perplexity"]] == ["2"]
    assert (folder / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("chosen", CHOICES, ids=",".join)
def test_two_steps(chosen: list[str], crumbs: Path, tmp_path: Path) -> None:
    words = (*chosen, *TINY, *ALONE, f"data.dir={crumbs}", f"run.dir={tmp_path / 'run'}")
    outcome = call("xlm-train", *words).expect()
    check_run(tmp_path / "run", outcome)
    if chosen[0].startswith("experiment="):
        assert chosen == [f"experiment={outcome.result['experiment']}"]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 8])
def test_the_words_of_the_card(processes: int, crumbs: Path, tmp_path: Path) -> None:
    """`trainer.precision=16` and `strategy=ddp`, on CPU processes instead of GPUs."""
    outcome = run(
        "xlm-train",
        "experiment=xlm_clm_ende_1024",
        "trainer.precision=16",
        "trainer.strategy=ddp",
        f"trainer.devices={processes}",
        *TINY,
        f"data.dir={crumbs}",
        cwd=tmp_path,
    ).expect()
    (folder,) = (tmp_path / "outputs" / "xlm_clm_ende_1024").iterdir()
    assert Path(outcome.result["run_dir"]) == folder.relative_to(tmp_path)
    check_run(folder, outcome)
    assert outcome.result["world_size"] == processes
    # the recipe's eight micro-batches make a step, however many processes share them
    assert outcome.result["tokens_seen"] == 2 * 8 * 2 * 16
    assert outcome.stdout.count("\n") == 1, "one process speaks for all"
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["precision"] == "16"
