"""xlm-train as users run it: a tiny model, the tiny sample corpus; in processes of its own wherever
signals, terminals or ranks matter."""

from __future__ import annotations

import csv
import json
import math
import re
import signal
from pathlib import Path

import pytest
import torch
import yaml
from commands import Outcome, run, run_and_signal, run_on_a_terminal
from crumbs import crumbs_of
from in_process import call

STEPS = 40
TINY = (
    "experiment=debug",
    f"trainer.max_steps={STEPS}",
    "trainer.accelerator=cpu",
    "checkpoint.every_n_steps=5",
    "data.max_valid_tokens=500",
)


def train(data: Path, folder: Path, *words: str) -> Outcome:
    return call("xlm-train", *TINY, f"data.dir={data}", f"run.dir={folder}", *words)


@pytest.fixture(scope="module")
def crumbs(prepared: Path) -> Path:
    return crumbs_of(prepared)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def losses(folder: Path) -> dict[int, str]:
    return {int(row["step"]): row["train/loss"] for row in rows(folder) if row["train/loss"]}


@pytest.fixture(scope="module")
def finished(crumbs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run to its end, with its outcome."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    words = (*TINY, f"data.dir={crumbs}", f"run.dir={folder}")
    return folder, run("xlm-train", *words).expect()


def test_a_run_leaves_what_the_contract_promises(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    summary = outcome.result
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["steps"] == STEPS
    assert summary["experiment"] == "debug"
    assert summary["tokens_seen"] == STEPS * 4 * 32
    assert summary["accelerator"] == "cpu"
    assert Path(summary["best_checkpoint"]).is_file()
    assert Path(summary["last_checkpoint"]) == folder / "checkpoints" / "last.ckpt"
    for split in ("valid", "test"):
        for language in ("de", "en"):
            figures = summary[split][language]
            assert set(figures) == {"perplexity", "accuracy", "bits_per_byte", "nll_nats", "tokens"}
            assert figures["perplexity"] == pytest.approx(
                math.exp(figures["nll_nats"] / figures["tokens"])
            )
        assert summary[split]["mean"]["perplexity"] > 1
    assert "limit" not in summary  # nobody knows the entropy of this text
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == STEPS
    assert f"trainer.max_steps={STEPS}" in yaml.safe_load((folder / "overrides.yaml").read_text())
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["command"][0] == "xlm-train"
    assert provenance["precision"] == {"asked": "auto", "used": summary["precision"]}
    assert provenance["packages"]["torch"].startswith(torch.__version__.split("+")[0])


def test_a_corpus_of_known_entropy_shows_its_limit(prepared: Path, tmp_path: Path) -> None:
    summary = train(prepared, tmp_path / "run", "trainer.max_steps=5").expect().result
    assert set(summary["limit"]) == {"de", "en"}
    assert 1 < summary["limit"]["de"]["perplexity"] < summary["valid"]["de"]["perplexity"]
    assert set(summary["grammatical"]) == {"de", "en"}


def test_metrics_and_samples(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    assert sorted(losses(folder)) == list(range(1, STEPS + 1))
    validated = [int(row["step"]) for row in rows(folder) if row["valid/de/perplexity"]]
    assert validated == [10, 20, 30, 40]
    samples = (folder / "samples.md").read_text()
    assert samples.count("## step") == 4
    assert samples.count("**de**") == samples.count("**en**") == 4


def test_a_terminal_shows_bars_for_training_and_scoring(crumbs: Path, tmp_path: Path) -> None:
    words = (*TINY, f"data.dir={crumbs}", f"run.dir={tmp_path / 'run'}")
    quick = ("callbacks.progress_seconds=0.01", "trainer.max_time=00:00:10:00")
    shown = run_on_a_terminal("xlm-train", *words, *quick).expect().stderr
    assert re.search(rf"training: 100%\|.*\| {STEPS}/{STEPS}, loss", shown)
    perplexity, speed = r"perplexity de [\d.]+ en [\d.]+", r"[\d,]+ tokens/s, \d\.\d cores"
    assert re.search(rf"loss \d\.\d{{3}}, {perplexity}, {speed}, 0\d:\d\d left", shown)
    assert "validation: " in shown
    assert "scoring valid: 100%" in shown
    assert "scoring test: 100%" in shown


def test_the_checkpoint_holds_plain_containers_only(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    assert not list(folder.rglob(".partial-*"))


def test_the_same_seed_gives_the_same_weights(
    crumbs: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    _, first = finished
    again = train(crumbs, tmp_path / "again", "data.workers=1").expect()
    assert again.result["weights_sha256"] == first.result["weights_sha256"]
    other = train(crumbs, tmp_path / "other", "seed=1").expect()
    assert other.result["weights_sha256"] != first.result["weights_sha256"]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_run_and_resume_changes_nothing(
    crumbs: Path, finished: tuple[Path, Outcome], tmp_path: Path, number: signal.Signals
) -> None:
    """Stopped in the middle, taken up again: weights, losses and text as without the stop."""
    whole_folder, whole = finished
    folder = tmp_path / "stopped"
    words = (*TINY, f"data.dir={crumbs}", f"run.dir={folder}")
    metrics = folder / "metrics.csv"
    stopped = run_and_signal(
        "xlm-train",
        *words,
        when=lambda: metrics.exists() and metrics.read_text().count("\n") > 6,
        number=number,
    ).expect(128 + number)
    assert stopped.result["status"] == "stopped"
    reached = stopped.result["steps"]
    assert 5 < reached < STEPS, "the signal came too late to prove anything"
    assert f"run.dir={folder}" in stopped.stderr
    resumed = run("xlm-train", *words).expect().result
    assert resumed["steps"] == STEPS
    assert resumed["tokens_seen"] == whole.result["tokens_seen"]
    assert resumed["weights_sha256"] == whole.result["weights_sha256"]
    assert resumed["valid"] == whole.result["valid"]
    assert losses(folder) == losses(whole_folder)
    assert (folder / "samples.md").read_text() == (whole_folder / "samples.md").read_text()


def test_accumulation_averages_whole_steps(crumbs: Path, tmp_path: Path) -> None:
    """An interrupted accumulation would lose gradients: the checkpoint stands between steps."""
    words = ("trainer.accumulate_grad_batches=2", "trainer.max_steps=10")
    whole = train(crumbs, tmp_path / "whole", *words).expect().result
    assert whole["tokens_seen"] == 10 * 2 * 4 * 32
    half = train(crumbs, tmp_path / "half", *words, "trainer.max_time=00:00:00:00").expect(0).result
    assert half["steps"] < 10
    resumed = train(crumbs, tmp_path / "half", *words).expect().result
    assert resumed["weights_sha256"] == whole["weights_sha256"]


def test_an_existing_run_is_not_overwritten(crumbs: Path, finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    refused = train(crumbs, folder, "resume=never").expect(2)
    assert "run.dir" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_another_seed_cannot_continue_a_run(crumbs: Path, finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    refused = train(crumbs, folder, "seed=5", "trainer.max_steps=60").expect(2)
    assert "seed" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_truncated_checkpoint_is_named(
    crumbs: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder, _ = finished
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes((folder / "checkpoints" / "last.ckpt").read_bytes()[:5000])
    for words in ([f"resume={broken}"], [f"model.init_from={broken}"]):
        refused = train(crumbs, tmp_path / "new", *words).expect(2)
        assert str(broken) in refused.stderr
        assert "Traceback" not in refused.stderr


def test_warm_start_takes_the_weights_and_nothing_else(
    crumbs: Path, finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder, _ = finished
    warm = train(
        crumbs, tmp_path / "warm", f"model.init_from={folder}", "trainer.max_steps=10"
    ).expect()
    assert warm.result["steps"] == 10
    assert losses(tmp_path / "warm")[1] < losses(folder)[1]
    refused = train(crumbs, tmp_path / "x", f"model.init_from={folder}", "model.dim=64").expect(2)
    assert "dim 64 / 32" in refused.stderr


def test_loggers_write_real_files(crumbs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "logged"
    train(crumbs, folder, "logger=[wandb,tensorboard]", "trainer.max_steps=10").expect()
    assert list((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("valid/mean/perplexity")] == [10]
    logged = [event.value for event in board.Scalars("train/loss")]
    written = [float(value) for value in losses(folder).values()]
    assert logged == pytest.approx(written, rel=1e-6)


def test_overfitting_one_batch(crumbs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "overfit"
    train(
        crumbs,
        folder,
        "debug=overfit",
        "model.dim=64",
        "trainer.max_steps=250",
        "optimizer.lr=5e-3",
        "data.batch_size=2",
        "trainer.val_check_interval=250",
        "trainer.precision=32",
    ).expect()
    curve = losses(folder)
    assert float(curve[250]) < 0.05
