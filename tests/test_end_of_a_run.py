"""How a run ends, and begins again: finished, stopped while it scores, failed, damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run, run_and_signal
from crumbs import crumbs_of
from in_process import call

WORDS = (
    "experiment=debug",
    "trainer.accelerator=cpu",
    "trainer.precision=32",
    "trainer.max_steps=20",
    "trainer.val_check_interval=5",
    "checkpoint.every_n_steps=4",
    "callbacks.samples.new_tokens=3",
    "data.batch_size=2",
    "data.stream_length=16",
)


@pytest.fixture(scope="module")
def crumbs(prepared: Path) -> Path:
    return crumbs_of(prepared)


@pytest.fixture(scope="module")
def finished(crumbs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("finished") / "run"
    words = (*WORDS, f"data.dir={crumbs}", f"run.dir={folder}")
    return folder, call("xlm-train", *words).expect().result


@pytest.fixture
def copied(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def state(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return loaded


def best(folder: Path) -> dict[str, Any]:
    """What the keeper of the best checkpoint remembers, paths left out."""
    (kept,) = (v for k, v in state(folder)["callbacks"].items() if k.startswith("BestCheckpoint"))
    return {"score": kept["best_model_score"], "name": Path(kept["best_model_path"]).name}


def test_the_same_command_again_repeats_the_result(
    crumbs: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    folder, first = finished
    samples, metrics = folder / "samples.md", folder / "metrics.csv"
    before = samples.read_text(), metrics.read_text()
    again = call("xlm-train", *WORDS, f"data.dir={crumbs}", f"run.dir={folder}").expect().result
    for name in ("status", "steps", "weights_sha256", "tokens_seen", "valid", "test"):
        assert again[name] == first[name]
    assert Path(again["best_checkpoint"]).name == Path(first["best_checkpoint"]).name
    assert (samples.read_text(), metrics.read_text()) == before


def test_the_last_checkpoint_knows_the_validation_of_its_step(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, summary = finished
    assert best(folder)["name"] == Path(summary["best_checkpoint"]).name


@pytest.mark.parametrize("step", [10, 12])
def test_a_run_cut_at_any_step_ends_as_the_straight_one(
    crumbs: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path, step: int
) -> None:
    """Step 10 validates, step 12 does not; both are the last of a shorter run."""
    folder = tmp_path / "run"
    words = (*WORDS, f"data.dir={crumbs}", f"run.dir={folder}")
    call("xlm-train", *words, f"trainer.max_steps={step}", "schedule=constant").expect()
    assert state(folder)["global_step"] == step
    resumed = call("xlm-train", *words, "schedule=constant").expect().result
    straight = tmp_path / "straight"
    words = (*WORDS, f"data.dir={crumbs}", f"run.dir={straight}", "schedule=constant")
    whole = call("xlm-train", *words).expect().result
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert best(folder) == best(straight)
    assert (folder / "samples.md").read_text() == (straight / "samples.md").read_text()


@pytest.mark.slow
def test_a_killed_run_does_not_write_its_samples_twice(
    crumbs: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    samples = folder / "samples.md"
    words = (*WORDS, f"data.dir={crumbs}", f"run.dir={folder}", "checkpoint.every_n_steps=7")
    run_and_signal(
        "xlm-train",
        *words,
        when=lambda: samples.exists() and "## step 10" in samples.read_text(),
        number=signal.SIGKILL,
    ).expect(-signal.SIGKILL)
    call("xlm-train", *words).expect()
    assert samples.read_text() == (finished[0] / "samples.md").read_text()


@pytest.mark.slow
def test_a_signal_while_scoring_is_a_stop_like_any_other(prepared: Path, tmp_path: Path) -> None:
    """Batches of 64 tokens make scoring last."""
    folder = tmp_path / "run"
    last = folder / "checkpoints" / "last.ckpt"
    short = ("data.stream_length=8", "data.batch_size=8", "trainer.max_steps=5")
    words = (*WORDS, *short, f"data.dir={prepared}", f"run.dir={folder}", "data.max_valid_tokens=9")
    stopped = run_and_signal(
        "xlm-train", *words, when=last.exists, number=signal.SIGINT, settle_seconds=1.0
    ).expect(128 + signal.SIGINT)
    assert stopped.result["status"] == "stopped"
    assert stopped.result["steps"] == 5
    assert "test" not in stopped.result
    assert json.loads((folder / "summary.json").read_text()) == stopped.result
    assert "go on with" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    finished = call("xlm-train", *words).expect().result
    assert finished["status"] == "finished"
    assert finished["weights_sha256"] == stopped.result["weights_sha256"]


def test_a_run_that_fails_says_so_in_its_summary(crumbs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "samples.md").mkdir(parents=True)
    words = (*WORDS, f"data.dir={crumbs}", f"run.dir={folder}")
    failed = run("xlm-train", *words).expect(1)
    assert "IsADirectoryError" in failed.stderr
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "samples.md" in summary["error"]


def test_of_several_kept_checkpoints_the_best_is_taken(crumbs: Path, tmp_path: Path) -> None:
    """A rate that ruins the model: the best is not the last."""
    folder = tmp_path / "run"
    words = ("optimizer.lr=0.5", "schedule=constant", "checkpoint.keep_best=3")
    words = (*WORDS, *words, f"data.dir={crumbs}", f"run.dir={folder}")
    summary = call("xlm-train", *words).expect().result
    kept = sorted(path.name for path in (folder / "checkpoints").glob("best-*.ckpt"))
    wanted = Path(summary["best_checkpoint"])
    assert len(kept) == 3
    assert kept[-1] != wanted.name, "this run proves nothing"
    chosen = call("xlm-evaluate", f"checkpoint={folder}").expect().result["checkpoint"]
    assert Path(chosen).name == wanted.name


def test_weights_alone_cannot_be_resumed(crumbs: Path, copied: Path, tmp_path: Path) -> None:
    (file,) = (copied / "checkpoints").glob("best-*.ckpt")
    words = [*WORDS, f"data.dir={crumbs}", f"run.dir={tmp_path / 'new'}", f"resume={file}"]
    refused = call("xlm-train", *words).expect(2)
    assert f"{file} holds weights only" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_run_folder_that_is_a_file(crumbs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/run"):
        words = (*WORDS, f"data.dir={crumbs}", f"run.dir={tmp_path / name}")
        assert "is a file" in call("xlm-train", *words).expect(2).stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("command", "words", "named"),
    [
        ("xlm-train", ["trainer.accelerator=gpu"], "trainer.accelerator=gpu"),
        ("xlm-train", ["trainer.devices=[0,1]"], "trainer.devices=[0, 1]"),
        ("xlm-train", ["trainer.accelerator=auto", "trainer.devices=[0]"], "trainer.devices=[0]"),
        ("xlm-evaluate", ["accelerator=gpu"], "accelerator=gpu"),
        ("xlm-generate", ["accelerator=gpu"], "accelerator=gpu"),
        ("xlm-evaluate", ["text_file={folder}", "language=de"], "must be a file"),
    ],
)
def test_what_this_machine_has_not(
    crumbs: Path,
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    command: str,
    words: list[str],
    named: str,
) -> None:
    filled = [word.format(folder=tmp_path) for word in words]
    if command == "xlm-train":
        filled = [*WORDS, f"data.dir={crumbs}", f"run.dir={tmp_path / 'run'}", *filled]
    else:
        filled = [f"checkpoint={finished[0]}", *filled]
    refused = call(command, *filled).expect(2)
    assert named in refused.stderr
    assert "Traceback" not in refused.stderr


def test_text_encoded_with_other_words_is_refused(
    crumbs: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A vocabulary of the same size proves nothing."""
    other = Path(shutil.copytree(crumbs, tmp_path / "other"))
    lines = (other / "vocab").read_text().splitlines()
    words = [line.rsplit(" ", 1)[0] for line in lines]
    counts = [line.rsplit(" ", 1)[1] for line in lines]
    words[0], words[1] = words[1], words[0]
    text = "".join(f"{word} {count}\n" for word, count in zip(words, counts, strict=True))
    (other / "vocab").write_text(text)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["vocab_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (other / "manifest.json").write_text(json.dumps(manifest))
    refused = call("xlm-evaluate", f"checkpoint={finished[0]}", f"data.dir={other}").expect(2)
    assert "other words" in refused.stderr


def test_runs_of_different_sweeps_are_different_runs_for_wandb(
    crumbs: Path, tmp_path: Path
) -> None:
    ids = []
    for sweep in ("one", "two"):
        folder = tmp_path / sweep / "0"
        words = (*WORDS, f"data.dir={crumbs}", f"run.dir={folder}", "logger=wandb")
        call("xlm-train", *words, "trainer.max_steps=5").expect()
        (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
        ids.append(file.stem)
    assert ids == ["run-one-0", "run-two-0"]


@pytest.mark.parametrize(("pause", "code"), [(1.2, 130), (0.0, 0)])
def test_a_second_ctrl_c_leaves_at_once(pause: float, code: int) -> None:
    """But not one that comes with the first: the terminal's, and the one torchrun hands on."""
    program = (
        "import os, signal, sys, time\n"
        "from xlm_lightning.callbacks.stop_signals import StopSignals\n"
        "with StopSignals().handled():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        f"    time.sleep({pause})\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == code


def test_the_time_of_a_run_is_up(crumbs: Path, tmp_path: Path) -> None:
    words = (*WORDS, f"data.dir={crumbs}", f"run.dir={tmp_path / 'run'}")
    longer = ("trainer.max_steps=1000000", "trainer.val_check_interval=1000000")
    told = call("xlm-train", *words, *longer, "trainer.max_time=00:00:00:01").expect().result
    assert told["status"] == "finished"
    assert 0 < told["steps"] < 1_000_000
    assert state(tmp_path / "run")["global_step"] == told["steps"]
    assert "perplexity" in told["valid"]["mean"]
