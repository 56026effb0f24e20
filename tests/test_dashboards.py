"""Dashboards: what they are told, read back from their real files, over kills, sweeps and pages."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import SCRIPTS, environment, run, run_and_signal
from crumbs import crumbs_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_server import wandb_server

from xlm_lightning.dashboards.dashboard import Dashboard
from xlm_lightning.dashboards.tensorboard_files import TensorBoardFiles
from xlm_lightning.dashboards.trackio_run import TrackioRun
from xlm_lightning.dashboards.wandb_files import read_records, read_rows
from xlm_lightning.flops import training_flops

CHROMIUM = shutil.which("chromium")
WORDS = (
    "experiment=debug",
    "trainer.accelerator=cpu",
    "model.dim=16",
    "model.heads=2",
    "data.max_valid_tokens=100",
    "callbacks.samples.new_tokens=3",
    "logger=[csv,wandb,tensorboard,trackio]",
)
STEPS, EVERY = 60, 5  # optimizer steps, and those between two validations


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    own = (f"trainer.max_steps={STEPS}", f"trainer.val_check_interval={EVERY}")
    return (*WORDS, *own, f"data.dir={crumbs_of(prepared)}", "checkpoint.every_n_steps=3")


@pytest.fixture(scope="module")
def killed(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed between two checkpoints, and went on to its end."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    metrics = folder / "metrics.csv"
    run_and_signal(
        "xlm-train",
        *words,
        f"run.dir={folder}",
        when=lambda: metrics.is_file() and "\n23," in metrics.read_text(),
        number=signal.SIGKILL,
    ).expect(-signal.SIGKILL)
    assert steps(csv_rows(folder), "train/loss")[-1] < STEPS
    run("xlm-train", *words, f"run.dir={folder}").expect()
    return folder


# --- their files, read back -----------------------------------------------------------------------
def steps(rows: list[dict[str, Any]], name: str) -> list[int]:
    """The steps of the rows that have the figure `name`, in the order of the file."""
    return [int(row["step"]) for row in rows if row.get(name) not in (None, "")]


def names(rows: list[dict[str, Any]]) -> set[str]:
    return {name for row in rows for name in row if name.startswith(("train/", "valid/"))}


def csv_rows(folder: Path) -> list[dict[str, Any]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wandb_folders(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"))


def wandb_files(folder: Path) -> list[Path]:
    return [next(start.glob("run-*.wandb")) for start in wandb_folders(folder)]


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """Those of all starts, in the order in which wandb sync sends them."""
    return [
        {**row, "step": row["_step"]} for file in wandb_files(folder) for row in read_rows(file)
    ]


def trackio_rows(folder: Path) -> list[dict[str, Any]]:
    (database,) = (folder / "trackio").glob("*.db")
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    return [{**json.loads(metrics), "step": step} for step, metrics in found]


def tensorboard_rows(folder: Path) -> list[dict[str, Any]]:
    board = events(folder)
    return [
        {"step": event.step, name: event.value}
        for name in board.Tags()["scalars"]
        for event in board.Scalars(name)
    ]


def events(folder: Path) -> EventAccumulator:
    board = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "tensors": 0})
    board.Reload()
    return board


BOARDS = {"wandb": wandb_rows, "trackio": trackio_rows, "tensorboard": tensorboard_rows}


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS)
def test_a_killed_run_is_one_run_with_one_axis(board: str, killed: Path) -> None:
    rows, reference = BOARDS[board](killed), csv_rows(killed)
    assert steps(rows, "train/loss") == list(range(1, STEPS + 1))
    assert steps(rows, "valid/de/perplexity") == list(range(EVERY, STEPS + 1, EVERY))
    assert names(rows) == names(reference)
    for name in ("train/loss", "train/en/tokens_seen", "valid/mean/perplexity"):
        ours = [row[name] for row in rows if name in row]
        assert ours == pytest.approx([float(row[name]) for row in reference if row[name]], rel=1e-6)


@pytest.mark.parametrize("board", ["tensorboard", "trackio"])
def test_a_finished_run_that_is_asked_again_keeps_its_figures(board: str, tmp_path: Path) -> None:
    """Nothing is left to train: what comes first is the end, at a step that is there already."""

    def start() -> Dashboard:
        if board == "trackio":
            return TrackioRun(tmp_path, "mine", tmp_path / board, {"seed": 0})
        return TensorBoardFiles(tmp_path / board, {"seed": 0})

    first, again = start(), start()
    for step in (1, 2):
        first.log_metrics({"train/loss": 1.0}, step)
    for one in (first, again):
        one.close({"steps": 2, "valid": {"de": {"perplexity": 3.0, "tokens": 7}}})
    assert steps(BOARDS[board](tmp_path), "train/loss") == [1, 2]
    assert set(steps(BOARDS[board](tmp_path), "final/valid/de/perplexity")) == {2}


@pytest.mark.slow
def test_wandb_has_one_id_and_the_figures_of_the_end(killed: Path) -> None:
    first, second = map(list, map(read_records, wandb_files(killed)))
    told = [record.run for record in (*first, *second) if record.WhichOneof("record_type") == "run"]
    assert {each.run_id for each in told} == {f"{killed.parent.name}-killed"}
    config = {item.key: json.loads(item.value_json) for item in told[-1].config.update}
    assert config["trainer"]["max_steps"] == STEPS
    summary = json.loads((killed / "summary.json").read_text())
    shown = {
        item.key: json.loads(item.value_json)
        for record in second
        if record.WhichOneof("record_type") == "summary"
        for item in record.summary.update
    }
    assert shown["final/test/de/perplexity"] == summary["test"]["de"]["perplexity"]
    assert second[-1].WhichOneof("record_type") == "exit"


@pytest.mark.slow
def test_wandb_sync_joins_the_starts_of_a_run(killed: Path, tmp_path: Path) -> None:
    with wandb_server() as server:
        done = subprocess.run(
            [str(SCRIPTS / "wandb"), "sync", "--yes", *map(str, wandb_folders(killed))],
            cwd=tmp_path,  # where it writes a log
            env=environment() | server.variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    (history,) = server.history.values()
    assert [row["_step"] for row in history] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_samples_are_shown_beside_the_figures(killed: Path) -> None:
    last = (killed / "samples.md").read_text().rpartition("## step ")[2]
    texts = dict(re.findall(r"\*\*(\w+)\*\* (.*)\n", last))
    assert set(texts) == {"de", "en"}
    expected = [[language, text] for language, text in texts.items()]
    (table,) = (killed / "wandb").glob(
        f"offline-run-*/files/media/table/samples_{STEPS}_*.table.json"
    )
    assert json.loads(table.read_text())["data"] == expected
    shown = [row["samples"]["_value"] for row in trackio_rows(killed) if "samples" in row]
    assert [list(sample.values()) for sample in shown[-1]] == expected
    text = events(killed).Tensors("samples/0/text_summary")[-1]
    assert text.tensor_proto.string_val[0].decode() == f"**de** {texts['de']}"


@pytest.mark.slow
def test_jobs_of_a_sweep_are_runs_of_a_group(words: tuple[str, ...], tmp_path: Path) -> None:
    own = ("trainer.max_steps=2", "trainer.val_check_interval=2", "schedule.warmup_steps=1")
    kept = ("logger=wandb", "logger.wandb.log_checkpoints=true", "sweep.name=rates")
    run("xlm-train", "-m", *words, *own, *kept, "optimizer.lr=1e-3,2e-3", cwd=tmp_path).expect()
    seen = []
    for number in (0, 1):
        (file,) = wandb_files(tmp_path / "outputs" / "sweeps" / "rates" / str(number))
        (told,) = (r.run for r in read_records(file) if r.WhichOneof("record_type") == "run")
        config = {item.key: json.loads(item.value_json) for item in told.config.update}
        assert (told.run_group, told.job_type) == ("rates", "sweep")
        seen.append((told.run_id, config["optimizer"]["lr"]))
        assert steps([{**row, "step": row["_step"]} for row in read_rows(file)], "train/loss") == [
            1,
            2,
        ]
        artifacts = {r.artifact.name for r in read_records(file) if r.HasField("artifact")}
        assert artifacts >= {f"rates-{number}-best", f"rates-{number}-last"}
    assert seen == [("rates-0", 1e-3), ("rates-1", 2e-3)]


# --- what is counted ------------------------------------------------------------------------------
@pytest.mark.slow
def test_tokens_by_language_are_those_of_the_plan(killed: Path) -> None:
    last = [row for row in csv_rows(killed) if row["train/loss"]][-1]
    by_language = {name: int(last[f"train/{name}/tokens_seen"]) for name in ("de", "en")}
    assert sum(by_language.values()) == int(last["train/tokens_seen"]) == STEPS * 4 * 32
    shares = json.loads((killed / "provenance.json").read_text())["language_shares"]
    assert sum(shares.values()) == pytest.approx(1)
    for name, tokens in by_language.items():
        assert tokens / sum(by_language.values()) == pytest.approx(shares[name], abs=0.2)


def test_operations_of_a_published_shape() -> None:
    """By hand for 6 layers of 1024 and 64,699 words, in rows of 256: 6 x 141.7 M + attention."""
    weights = 6 * (4 * 1024**2 + 2 * 4 * 1024**2) + 1024 * 64_699
    a_token = 6 * weights + 12 * 6 * 1024 * 256
    shape = {"layers": 6, "dim": 1024, "vocab_size": 64_699, "time": 256}
    assert training_flops(**shape, tokens=1, scored=1) == a_token
    masked = training_flops(**shape, tokens=20, scored=3)
    assert masked == 20 * a_token - 17 * 6 * 1024 * 64_699


# --- a page ---------------------------------------------------------------------------------------
@contextmanager
def served(command: list[str], address: str, **variables: str) -> Iterator[None]:
    """A dashboard on the loopback, ended afterwards."""
    process = subprocess.Popen(
        command,
        env=environment() | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "it ended before it could be looked at"
                assert time.monotonic() < deadline, "it never answered"
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def look_at(address: str, expected: str) -> None:
    """Open a page in Chromium, which asks nobody but the loopback, and wait for a text on it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page()
        page.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
        page.goto(address)
        page.get_by_text(expected).first.wait_for(timeout=90_000)
        browser.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture
def chromium() -> None:
    if CHROMIUM is None:
        assert "REQUIRE_CHROMIUM" not in os.environ, "no chromium on the path"
        pytest.skip("no chromium on the path")


@pytest.mark.slow
@pytest.mark.usefixtures("chromium")
def test_tensorboard_shows_a_curve(killed: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    program = [sys.executable, "-m", "tensorboard.main", "--host=127.0.0.1", f"--port={port}"]
    with served([*program, f"--logdir={killed}"], address):
        look_at(f"{address}?tagFilter=learning_rate#timeseries", "/learning_rate")


@pytest.mark.slow
@pytest.mark.usefixtures("chromium")
def test_trackio_shows_a_curve(killed: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    program = [str(SCRIPTS / "trackio"), "show", "--project", "xlm-lightning"]
    variables = {
        "TRACKIO_DIR": str(killed / "trackio"),
        "GRADIO_SERVER_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
        "BROWSER": "true",
    }
    with served([*program, "--host", "127.0.0.1"], address, **variables):
        look_at(address, "gradient_norm")
