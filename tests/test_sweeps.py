"""Sweeps: grids, Optuna, jobs at a time, failures, kills and what a sweep finds when it goes on."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import SCRIPTS, environment, run, run_and_signal
from crumbs import crumbs_of
from in_process import call
from processes import children

from xlm_lightning.overrides import options_of
from xlm_lightning.sweep.answers import ending_of
from xlm_lightning.sweep.jobs import Job
from xlm_lightning.sweep.table import Table

TINY = (
    "experiment=debug",
    "trainer.accelerator=cpu",
    "trainer.max_steps=2",
    "trainer.val_check_interval=2",
    "schedule.warmup_steps=1",
    "data.max_valid_tokens=100",
    "callbacks.samples.new_tokens=0",
)
SPACE = "optimizer.lr=tag(log,interval(1e-4,1e-2))"


@pytest.fixture(scope="module")
def tiny(prepared: Path) -> tuple[str, ...]:
    return (*TINY, f"data.dir={crumbs_of(prepared)}")


def rows_of(sweep: Path) -> list[dict[str, str]]:
    """The lines of sweep.csv."""
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> dict[str, Any]:
    """Return summary.json of a run."""
    told: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return told


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """Start a sweep and go on."""
    return subprocess.Popen(
        [str(SCRIPTS / "xlm-train"), "-m", *words],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


# --- grids ----------------------------------------------------------------------------------------
def test_a_sweep_gives_each_job_its_folder(tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = (*tiny, "model.dim=16", "model.heads=2")
    outcome = run("xlm-train", "-m", *words, "seed=3,4", cwd=tmp_path).expect()
    *results, swept = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [result["seed"] for result in results] == [3, 4]
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert [Path(result["run_dir"]).name for result in results] == ["0", "1"]
    for job, result in enumerate(results):
        assert json.loads((sweep / str(job) / "summary.json").read_text()) == result
    assert results[0]["weights_sha256"] != results[1]["weights_sha256"]
    with (sweep / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["status"]) for row in rows] == [("3", "finished"), ("4", "finished")]
    figures = [result["valid"]["mean"]["perplexity"] for result in results]
    assert [float(row["perplexity"]) for row in rows] == figures
    for row, result in zip(rows, results, strict=True):
        each = [f"{name}={result['valid'][name]['perplexity']:.3f}" for name in ("de", "en")]
        assert row["by_language"] == " ".join(each)
    best = figures.index(min(figures))
    assert (swept["jobs"], swept["failed"], swept["best"]["job"]) == (2, 0, best)
    assert Path(swept["best"]["run_dir"]).name == str(best)
    assert f"seed={3 + best}" in shlex.split(swept["best"]["command"])
    assert f"best: {swept['best']['command']}" in outcome.stderr
    report = (sweep / "report.html").read_text()
    assert all(f'href="{job}/report.html"' in report for job in range(2))


@pytest.mark.slow
def test_a_failing_job_does_not_stop_the_others(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    folders = f"data.dir={tmp_path / 'empty'},{crumbs_of(prepared)}"
    words = (*TINY, "data.prepare=null", folders)
    outcome = run("xlm-train", "-m", *words, cwd=tmp_path).expect(2)
    assert "not a prepared folder" in outcome.stderr
    assert (outcome.result["failed"], outcome.result["best"]["job"]) == (1, 1)
    with (tmp_path / outcome.result["sweep_dir"] / "sweep.csv").open(newline="") as file:
        failed, finished = csv.DictReader(file)
    assert (failed["status"], failed["exit_code"], finished["status"]) == (
        "failed",
        "2",
        "finished",
    )
    assert "not a prepared folder" in failed["error"]


@pytest.mark.slow
def test_a_job_that_crashes_says_why(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """Not the user's mistake but the machine's: its summary cannot be written."""
    words = (*tiny, "run.dir=first,run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").mkdir()
    outcome = run("xlm-train", "-m", *words, cwd=tmp_path).expect(1)
    assert outcome.result["failed"] == 1
    assert "failed: IsADirectoryError" in outcome.stderr


@pytest.mark.slow
def test_a_job_that_is_killed_does_not_stop_the_others(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """As the system does when memory runs out."""
    words = (*tiny, "trainer.max_steps=5000,2")
    with subprocess.Popen(
        [str(SCRIPTS / "xlm-train"), "-m", *words],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as sweep:
        while not [*(tmp_path / "outputs").glob("sweeps/*/0/metrics.csv")]:
            assert sweep.poll() is None
            time.sleep(0.05)
        (job,) = children(sweep.pid)
        os.kill(job, signal.SIGKILL)
        stdout, stderr = sweep.communicate(timeout=120)
    assert sweep.returncode == 1
    assert re.search(r"^0 +5000 +failed: SIGKILL$", stderr, re.MULTILINE)
    finished = r"^1 +2 +perplexity [\d.]+ +de=[\d.]+ en=[\d.]+ +finished$"
    assert re.search(finished, stderr, re.MULTILINE)
    assert json.loads(stdout.splitlines()[-1])["best"]["job"] == 1


@pytest.mark.slow
def test_a_signal_stops_the_sweep(tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = (*tiny, "trainer.max_steps=5000", "seed=1,2")
    started = tmp_path / "outputs" / "sweeps"
    outcome = run_and_signal(
        "xlm-train",
        "-m",
        *words,
        when=lambda: bool([*started.glob("*/0/metrics.csv")]),
        number=signal.SIGTERM,
        cwd=tmp_path,
    ).expect(128 + signal.SIGTERM)
    assert re.search(r"^0 +1 .*stopped: SIGTERM$", outcome.stderr, re.MULTILINE)
    assert re.search(r"^1 +2 +not run$", outcome.stderr, re.MULTILINE)


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was_stopped(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """The second job cannot write its summary at first; the first one is not run again."""
    words = ("-m", *tiny, "seed=1,2", "sweep.name=both")
    sweep = tmp_path / "outputs" / "sweeps" / "both"
    obstacle = sweep / "1" / "summary.json"
    obstacle.mkdir(parents=True)
    outcome = run("xlm-train", *words, cwd=tmp_path).expect(1)
    assert [row["status"] for row in rows_of(sweep)] == ["finished", "failed"]
    assert re.search(r"^1 +2 +failed: IsADirectoryError", outcome.stderr, re.MULTILINE)
    obstacle.rmdir()
    made = (sweep / "0" / "summary.json").stat().st_mtime_ns
    outcome = run("xlm-train", *words, cwd=tmp_path).expect()
    assert "job 0, of" not in outcome.stderr
    assert (sweep / "0" / "summary.json").stat().st_mtime_ns == made
    assert [row["status"] for row in rows_of(sweep)] == ["finished", "finished"]
    assert outcome.result["jobs"] == 2
    other = run("xlm-train", *words, "model.dim=16", cwd=tmp_path).expect(2)
    assert "holds a sweep with jobs" in other.stderr
    assert "choose another sweep.name" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in options_of("sweep") if n not in ("grid", "optuna")])
def test_each_file_of_values(name: str, tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = (*tiny, f"sweep={name}", "sweep.n_jobs=2", "seed=0")  # others take three
    if name == "table2":
        for objective in ("clm", "mlm"):
            where = (f"objective={objective}", f"run.dir=outputs/table2/{objective}")
            run("xlm-train", *tiny, *where, cwd=tmp_path).expect()
        words += ("objective=unmt",)
    outcome = run("xlm-train", "-m", *words, cwd=tmp_path)
    rows = rows_of(tmp_path / outcome.expect().result["sweep_dir"])
    assert len(rows) == outcome.result["jobs"] >= 3
    assert {row["status"] for row in rows} == {"finished"}
    assert len({row["perplexity"] for row in rows}) == len(rows)
    assert_the_best(outcome.result["best"], rows, translates=name == "table2")
    page = (tmp_path / outcome.result["sweep_dir"] / "report.html").read_text("utf-8")
    assert ("How well de is known" in page) == (name == "transfer")
    kept = tmp_path / outcome.result["sweep_dir"] / "transfer.json"
    assert kept.exists() == (name == "transfer")
    if kept.exists():
        (test,) = json.loads(kept.read_text())["tests"]
        assert {"alone", "random weights", "with en"} == {row["series"] for row in test["rows"]}
    assert ("What translation starts from" in page) == (name == "table2")
    table = tmp_path / outcome.result["sweep_dir"] / "table2.md"
    assert table.exists() == (name == "table2")
    if table.exists():
        starts = [tuple(row.split(" | ")[:3]) for row in table.read_text().splitlines()[2:]]
        names = ("none", "clm", "mlm")
        assert starts == [(f"| {one}", two, "1") for one in names for two in names]
    assert 'class="figure"><button type="button">by_language' not in page  # it is no choice


def assert_the_best(best: dict[str, Any], rows: list[dict[str, str]], *, translates: bool) -> None:
    """Translators are compared by BLEU, of which these may all have none."""
    assert all(bool(row["bleu"]) == translates for row in rows)
    figures = [float(row["bleu"]) if translates else -float(row["perplexity"]) for row in rows]
    assert best["job"] == figures.index(max(figures))
    assert best.get("bleu") == (max(figures) if translates else None)


def test_a_translator_is_judged_by_bleu(tmp_path: Path) -> None:
    def told(bleu: float, perplexity: float) -> dict[str, Any]:
        mean = {"bleu": bleu, "perplexity": perplexity}
        return {"valid": {"de-en": mean, "en-de": mean, "mean": mean}}

    jobs = [Job(number, {"seed": str(number)}, [], f"xlm {number}", None) for number in range(3)]
    table = Table.of(jobs, tmp_path / "sweep.csv")
    for job, (bleu, perplexity) in zip(jobs, [(7.5, 3.0), (31.25, 5.0), (30.0, 4.0)], strict=True):
        table.record(job, ending_of(0, told(bleu, perplexity), signalled=False))
    known = Table.of(jobs, tmp_path / "sweep.csv")  # of a sweep that goes on
    for each in (table, known):
        expected = {"job": 1, "perplexity": 5.0, "bleu": 31.25, "run_dir": None}
        assert each.best() == {**expected, "command": "xlm 1"}
        assert each.as_text().splitlines()[2].split() == [
            *("1", "1", "BLEU", "31.25", "de-en=31.25", "en-de=31.25", "finished")
        ]


@pytest.mark.slow
def test_jobs_at_a_time_share_the_machine(
    tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs run at once, each with one of the GPUs that the user named, and its own log."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    words = (*tiny, "trainer.max_steps=5000", "seed=1,2,3", "sweep.n_jobs=2", "sweep.name=two")
    sweep = tmp_path / "outputs" / "sweeps" / "two"
    with start(*words, cwd=tmp_path) as process:
        running = [sweep / str(job) / "metrics.csv" for job in (0, 1)]
        wait_until(lambda: all(file.is_file() for file in running), process)
        given = [
            dict(
                part.split("=", 1)
                for part in Path(f"/proc/{job}/environ").read_text().split("\0")
                if "=" in part
            )
            for job in children(process.pid)
        ]
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert sorted(names["CUDA_VISIBLE_DEVICES"] for names in given) == ["4", "6"]
    assert [row["status"] for row in rows_of(sweep)] == ["stopped", "stopped", "not run"]
    assert "valid perplexity" not in stderr
    assert "step" in (sweep / "0.log").read_text()
    assert "to go on: xlm-train -m experiment=debug" in stderr


@pytest.mark.slow
def test_a_grid_of_two_processes_a_job(tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = ("-m", *tiny, "trainer=ddp_cpu", "trainer.max_steps=4", "seed=1,2")
    outcome = run("xlm-train", *words, "optimizer.lr=1e-3,2e-3", cwd=tmp_path).expect()
    sweep = tmp_path / outcome.result["sweep_dir"]
    expected = [(seed, lr) for seed in ("1", "2") for lr in ("0.001", "0.002")]
    assert [(row["seed"], row["optimizer.lr"]) for row in rows_of(sweep)] == expected
    for job, (seed, lr) in enumerate(expected):
        assert summary(sweep / str(job))["world_size"] == 2
        assert_both_ranks_have(sweep / str(job), f"seed={seed}", f"optimizer.lr={lr}")
    assert sorted(p.name for p in sweep.iterdir() if p.name.isdigit()) == ["0", "1", "2", "3"]


def assert_both_ranks_have(folder: Path, *words: str) -> None:
    ranks = json.loads((folder / "provenance.json").read_text())["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1]
    for rank in ranks:
        assert set(words) <= set(rank["overrides"])
    assert ranks[0]["config_sha256"] == ranks[1]["config_sha256"]


# --- Optuna ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("objective", ["clm", "unmt"])
@pytest.mark.slow
def test_optuna_looks_for(objective: str, tiny: tuple[str, ...], tmp_path: Path) -> None:
    """The least perplexity, or of translators the most BLEU, also in what it prunes by."""
    words = ("sweep.method=optuna", "sweep.trials=2", "sweep.name=one", SPACE)
    run("xlm-train", "-m", *tiny, f"objective={objective}", *words, cwd=tmp_path).expect()
    sweep = tmp_path / "outputs" / "sweeps" / "one"
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep / 'study.db'}")
    name = "bleu" if objective == "unmt" else "perplexity"
    assert study.direction.name == ("MAXIMIZE" if objective == "unmt" else "MINIMIZE")
    assert [trial.value for trial in study.trials] == [float(row[name]) for row in rows_of(sweep)]


@pytest.mark.slow
def test_optuna_proposes_what_was_offered(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """A proposal that contradicts itself fails, and the others go on."""
    words = (
        "sweep.method=optuna",
        "sweep.trials=3",
        "sweep.prune=false",
        SPACE,
        "schedule.warmup_steps=range(1,4,2)",
        "data.alpha=choice(0.3,1.0)",
        "model.heads=int(interval(1,1))",
    )
    outcome = run("xlm-train", "-m", *tiny, *words, cwd=tmp_path).expect(2)
    sweep = tmp_path / outcome.result["sweep_dir"]
    rows = rows_of(sweep)
    assert len(rows) == 3
    for row in rows:
        assert 1e-4 <= float(row["optimizer.lr"]) <= 1e-2
        assert row["schedule.warmup_steps"] in ("1", "3")
        assert row["data.alpha"] in ("0.3", "1.0")
        assert row["model.heads"] == "1"
        too_long = row["schedule.warmup_steps"] == "3"  # of two steps
        assert row["status"] == ("failed" if too_long else "finished")
        assert ("must be at most trainer.max_steps" in row["error"]) == too_long
    assert {row["status"] for row in rows} == {"failed", "finished"}
    assert (sweep / "study.db").is_file()


@pytest.mark.slow
def test_a_bad_trial_is_pruned(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """After two good ones; it stops at a step, with its checkpoint."""
    words = (*tiny, "trainer.max_steps=200", "trainer.val_check_interval=20")
    optuna = ("sweep.method=optuna", "sweep.startup_trials=2", "optimizer.lr=3e-3,1e-6")
    found = False
    for seed in range(4):  # the trials are drawn: seeds until one of the bad rate comes last
        name = f"sweep.name=p{seed}"
        several = (f"sweep.seed={seed}", "sweep.trials=5", name)
        outcome = run(
            "xlm-train", "-m", *words, *optuna, *several, cwd=tmp_path, timeout=600
        ).expect()
        rows = rows_of(tmp_path / "outputs" / "sweeps" / f"p{seed}")
        for row in rows:
            if row["status"] == "pruned":
                found = True
                assert float(row["optimizer.lr"]) == 1e-6
                folder = tmp_path / row["run_dir"]
                assert 0 < summary(folder)["steps"] < 200
                assert (folder / "checkpoints" / "last.ckpt").is_file()
        if found:
            assert outcome.result["pruned"] == sum(row["status"] == "pruned" for row in rows)
            return
    raise AssertionError("no trial was pruned")


@pytest.mark.slow
def test_a_killed_study_goes_on(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """SIGKILL of the sweep alone, in its third trial of two processes: the same study at the end.

    The job that it leaves behind stops and saves by itself, the next sweep waits for it.
    """
    words = (
        *tiny,
        "trainer=ddp_cpu",
        "trainer.max_steps=60",
        "trainer.val_check_interval=20",
        "checkpoint.every_n_steps=1000",
        "sweep.method=optuna",
        "sweep.trials=4",
        "sweep.startup_trials=3",
        "sweep.prune=false",
        SPACE,
        "model.dropout=interval(0,0.3)",
    )
    sweeps = tmp_path / "outputs" / "sweeps"
    run("xlm-train", "-m", *words, "sweep.name=straight", cwd=tmp_path, timeout=600).expect()
    with start(*words, "sweep.name=killed", cwd=tmp_path) as process:
        third = sweeps / "killed" / "2" / "metrics.csv"
        wait_until(third.is_file, process)
        (job,) = children(process.pid)
        process.kill()
        process.communicate(timeout=60)
    outcome = run("xlm-train", "-m", *words, "sweep.name=killed", cwd=tmp_path, timeout=600)
    assert not Path(f"/proc/{job}").exists()
    assert "job 1, of" not in outcome.expect().stderr
    straight, killed = rows_of(sweeps / "straight"), rows_of(sweeps / "killed")
    assert len(killed) == 4
    for one, other in zip(straight, killed, strict=True):
        for key in ("optimizer.lr", "model.dropout", "status", "perplexity"):
            assert one[key] == other[key]
        assert_both_ranks_have(
            sweeps / "killed" / one["job"], f"optimizer.lr={one['optimizer.lr']}"
        )
    more = run("xlm-train", "-m", *words, "sweep.name=killed", "sweep.trials=5", cwd=tmp_path)
    assert more.expect().result["jobs"] == 5
    assert more.stderr.count(", of 5:") == 1


# --- two at once, refusals ------------------------------------------------------------------------
@pytest.mark.slow
def test_a_sweep_is_run_once_at_a_time(tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = (*tiny, "trainer.max_steps=5000", "seed=1,2", "sweep.name=one")
    with start(*words, cwd=tmp_path) as process:
        first = tmp_path / "outputs" / "sweeps" / "one" / "0" / "metrics.csv"
        wait_until(first.is_file, process)
        beside = run("xlm-train", "-m", *words, cwd=tmp_path).expect(2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert f"this sweep is being run (process {process.pid})" in beside.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("sweep=learning_rate", "sweep=learning_rate: is for sweeps; add -m"),
        ("-m sweep=learning_rat", "sweep=learning_rat: choose one of"),
        ("-m sweep.trails=3", "unknown key 'sweep.trails'. Did you mean 'sweep.trials'?"),
        ("-m sweep.n_jobs=0", "sweep.n_jobs=0: must be at least 1"),
        ("-m sweep.name=a/b seed=1,2", "sweep.name=a/b: must be letters"),
        ("-m seed='interval(1,2)'", "an interval needs sweep.method=optuna"),
        ("-m sweep.method=optuna", "has nothing to choose from"),
        ("-m sweep.method=optuna optimizer.lrr=1,2", "Did you mean 'optimizer.lr'?"),
        ("-m sweep.method=optuna seed=1,2 modle=3", "Did you mean 'model'?"),
        ("-m sweep.method=optuna optimizer.lr='interval(2,1)'", "from a lower to a higher value"),
        ("-m sweep.name=x run.dir=a,b", "they are for xlm-train without run.dir"),
        ("-m hydra/launcher=joblib seed=1,2", "hydra/launcher=joblib: choose one of basic, slurm"),
        ("-m hydra/launcher=slurm hydra.launcher.nodes=0 seed=1,2", "must be at least 1"),
    ],
)
def test_what_cannot_be_swept_is_told(
    words: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("xlm-train", *shlex.split(words)).expect(2)
    assert complaint in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 2
    assert not list(tmp_path.iterdir())
