"""The door of the commands: help, completion, sweeps, run ids, light start; in real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SCRIPTS, environment, run
from in_process import call

from xlm_lightning import cli
from xlm_lightning.errors import UserError
from xlm_lightning.run_id import run_id

COMMANDS = (
    "xlm-train", "xlm-prepare", "xlm-evaluate", "xlm-generate", "xlm-translate", "xlm-export"
)  # fmt: skip
HEAVY = ("torch", "pytorch_lightning", "transformers", "wandb", "data_prep")


# --- what is printed ------------------------------------------------------------------------------
@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, tmp_path: Path) -> None:
    told = run(command, "--help", cwd=tmp_path).expect().stdout
    assert f"usage: {command} " in told
    assert f'eval "$({command} -sc install=bash)"' in told
    assert "${" not in told
    assert max(map(len, told.splitlines())) <= 110
    assert not list(tmp_path.iterdir())


def test_the_configuration_is_shown_and_checked() -> None:
    shown = call("xlm-train", "--cfg", "job", "model.dim=96", "logger=wandb").expect().stdout
    assert "  dim: 96\n" in shown
    assert "project: xlm-lightning" in shown
    part = call("xlm-train", "--cfg", "job", "--package", "optimizer").expect().stdout
    assert part.startswith("# @package optimizer\nname: adam\n")
    assert "model.dim" in call("xlm-train", "--cfg", "job", "model.dimm=96").expect(2).stderr
    missing = call("xlm-generate", "--cfg", "job").expect().stdout
    assert "checkpoint: ???" in missing


def test_version() -> None:
    assert re.fullmatch(r"xlm-lightning \d+\.\d+\.\d+\n", call("xlm-train", "--version").stdout)


def test_nobody_reads_the_help_to_its_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [SCRIPTS / "xlm-train", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 128 + 13  # as any program that SIGPIPE ends


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("xlm-train trainer=", {"auto", "cpu", "gpu", "ddp", "ddp_cpu", "slurm"}),
        ("xlm-train experiment=xlm_", {"xlm_clm_ende_1024", "xlm_clm_enfr_1024"}),
        ("xlm-train optimizer.l", {"optimizer.lr="}),
        ("xlm-prepare corpus=t", {"text"}),
    ],
)
def test_shell_completion(typed: str, offered: set[str]) -> None:
    command = typed.split()[0]
    done = subprocess.run(
        [SCRIPTS / command, "-sc", "query=bash"],
        env={**environment(), "COMP_LINE": typed},
        capture_output=True,
        text=True,
        check=True,
    )
    words = {word.rpartition("=")[2] or word for word in done.stdout.split()}
    assert offered <= words
    prefix = typed.partition("=")[2]
    assert all(word.startswith(prefix) for word in words if prefix)


def test_completion_is_installed_as_hydra_ships_it() -> None:
    script = run("xlm-train", "-sc", "install=bash").expect().stdout
    assert "hydra_bash_completion" in script


# --- mistakes in a real process -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("command", "word", "complaint"),
    [
        ("xlm-train", "modle.layers=1", "Did you mean 'model.layers'?"),
        ("xlm-prepare", "corpus=txt", "corpus=txt: choose one of"),
        ("xlm-evaluate", "split=train", "split=train: must be one of valid, test."),
        ("xlm-generate", "language=de", "checkpoint has no value"),
    ],
)
def test_a_mistake(command: str, word: str, complaint: str, tmp_path: Path) -> None:
    words = ["checkpoint=x"] if command == "xlm-evaluate" else []
    outcome = run(command, word, *words, cwd=tmp_path).expect(2)
    assert complaint in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert outcome.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["modle.layers=1"], ["seed=1,2"]])
def test_nothing_heavy_is_imported_before_the_configuration_is_accepted(words: list[str]) -> None:
    program = (
        "import sys; from xlm_lightning import cli\n"
        "try: cli.train()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 2)
    assert done.stderr.splitlines()[-1] == "[]"


# --- names of runs --------------------------------------------------------------------------------
LAUNCHERS = (
    *("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"),
    *("TORCHELASTIC_RUN_ID", "LOCAL_RANK", "WORLD_SIZE", "XLM_RUN_ID"),
)
JOB = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train"}
STEP = {"SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "2"}
SHELL = {"SLURM_JOB_NAME": "interactive"}  # where one run follows another
TIME_AND_LETTERS = re.compile(r"\d{8}-\d{6}-[a-z]{4}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, TIME_AND_LETTERS),
        (JOB, re.compile("4711")),
        (JOB | STEP, re.compile("4711")),
        (JOB | SHELL, TIME_AND_LETTERS),
        (JOB | SHELL | STEP, re.compile(r"4711\.3")),
        (JOB | SHELL | STEP | {"SLURM_STEP_NUM_TASKS": "1"}, TIME_AND_LETTERS),
        ({"TORCHELASTIC_RUN_ID": "mine"}, re.compile("mine")),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1"}, TIME_AND_LETTERS),
        ({"XLM_RUN_ID": "parents", "LOCAL_RANK": "1"}, re.compile("parents")),
        ({"XLM_RUN_ID": "of another run"}, TIME_AND_LETTERS),
    ],
)
def test_run_id(
    given: dict[str, str], expected: re.Pattern[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LAUNCHERS:
        monkeypatch.setenv(name, "")  # so that what run_id sets is taken back
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    named = run_id()
    assert expected.fullmatch(named)
    assert os.environ["XLM_RUN_ID"] == named


def test_torchrun_without_an_id_cannot_agree_on_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--rdzv-id=NAME"):
        run_id()


def test_children_compose_the_folder_of_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lightning starts them: the parent's words and environment, and a rank."""
    for name in LAUNCHERS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    shown = "from xlm_lightning import cli, compose, overrides\n" + (
        "words = overrides.read_words(cli.TRAIN, [])\n"
        "print(compose.compose(cli.TRAIN, words)[0].run.dir)"
    )
    (config,) = cli.compose(cli.TRAIN, cli.read_words(cli.TRAIN, []))
    for rank in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-c", shown],
            env={**os.environ, "LOCAL_RANK": rank},
            capture_output=True,
            text=True,
            check=True,
        )
        assert child.stdout.strip() == config.run.dir
