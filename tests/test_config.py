"""conf/ and the schema agree, and what is wrong is refused in a line before anything happens."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import examples_of
from in_process import call

from xlm_lightning import cli, compose, legality, overrides
from xlm_lightning.config_files import config_folder
from xlm_lightning.schema import PRECISIONS, Train

CONF = config_folder()
COMMANDS = (
    cli.TRAIN, cli.PREPARE, cli.EVALUATE, cli.GENERATE, cli.TRANSLATE, cli.EXPORT, cli.REPORT
)  # fmt: skip
NEEDED = {
    "train": ["data.dir=x"],
    "prepare": [],
    "evaluate": ["checkpoint=x"],
    "generate": ["checkpoint=x"],
    "translate": ["checkpoint=x", "source=de", "target=en"],
    "export": ["checkpoint=x", "out=y"],
    "report": ["runs=x"],
}


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that is not noticed would make the sample corpus and train on it for minutes."""

    def begin(*_: object, **__: object) -> None:
        raise AssertionError("the configuration was accepted")

    monkeypatch.setattr("xlm_lightning.prepare._sample", begin)


def accepted(command: overrides.Command, *words: str) -> Any:
    (config,) = compose.compose(command, overrides.read_words(command, list(words)))
    return config


def options() -> list[Any]:
    """Every option of every group of every command, as it lies on the disk."""
    return [
        pytest.param(command, f"{group}={file.stem}", id=f"{command.name}:{group}={file.stem}")
        for command in COMMANDS
        for group in sorted(command.groups)
        for file in sorted((CONF / group).glob("*.yaml"))
    ]


# --- what is offered ------------------------------------------------------------------------------
@pytest.mark.parametrize(("command", "choice"), options())
def test_every_option_is_legal(command: overrides.Command, choice: str) -> None:
    accepted(command, choice, *NEEDED[command.name])


SWEEPS = [f"{group}={name}" for group in ("sweep", "hydra/launcher")
          for name in overrides.options_of(group)]  # fmt: skip


@pytest.mark.parametrize("choice", SWEEPS)
def test_every_option_of_a_sweep_is_legal(choice: str) -> None:
    plan = compose.compose_sweep(overrides.read_words(cli.TRAIN, ["-m", choice]))
    assert (plan.launcher is not None) == choice.startswith("hydra/launcher")
    words = [f"{key}={values}" for key, values in plan.sweep.parameters.items()]
    parsed = compose.parse_overrides(cli.TRAIN, words)  # one that is not swept is for all jobs
    assert not words or any(word.is_sweep_override() for word in parsed)


def test_the_help_names_every_sweep() -> None:
    told = call("xlm-train", "--help").expect().stdout
    (line,) = re.findall(r"^ +sweep +with -m: (.*)$", told, re.MULTILINE)
    assert set(line.split()) == set(overrides.options_of("sweep"))


def test_every_file_is_an_entry_or_an_option_of_one() -> None:
    entries = {f"{command.name}.yaml" for command in (*COMMANDS, compose.SWEEP)}
    groups = {group for command in COMMANDS for group in command.groups}
    groups |= {"sweep", "hydra/help", "hydra/launcher"}
    for file in CONF.rglob("*.yaml"):
        place = file.relative_to(CONF)
        assert str(place) in entries or str(place.parent) in groups, f"{place} is never chosen"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_names_every_option(command: overrides.Command) -> None:
    told = call(f"xlm-{command.name}", "--help").expect().stdout
    for group in command.groups:
        (line,) = re.findall(rf"^ +{group} +(.*(?:\n {{10,}}.*)*)$", told, re.MULTILINE)
        named = set(re.findall(r"[\w]+", line))
        assert set(overrides.options_of(group)) <= named, group


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_shows_what_is_used_most(command: overrides.Command) -> None:
    """Ten keys, or all of a command that has fewer, each with a word of explanation."""
    told = call(f"xlm-{command.name}", "--help").expect().stdout
    _, _, used = told.partition("Most used\n")
    lines = used.partition("\n\n")[0].splitlines()
    written = [tuple(re.split(r"\s{2,}", line.strip(), maxsplit=1)) for line in lines]
    assert all(len(row) == 2 for row in written), "a word without its explanation"
    words = [shlex.split(row[0])[0] for row in written]
    known = {field.key for field in legality.fields(command.schema) if field.folder is None}
    assert len(words) == min(10, len(known))
    alone = {"text_file=FILE", "suite=crosslingual"}  # these go without text=
    words = [word for word in words if word not in alone]
    corpus = ["corpus=text", "corpus.train.en=FILE"] if command is cli.PREPARE else []
    accepted(command, *NEEDED[command.name], *corpus, *words)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_shows_three_legal_examples(command: overrides.Command) -> None:
    examples = examples_of(call(f"xlm-{command.name}", "--help").expect().stdout)
    assert len(examples) == 3
    for line in examples:
        name, *words = shlex.split(line)
        assert name == f"xlm-{command.name}"
        assert compose.compose(command, overrides.read_words(command, words))


def test_values_arrive_as_they_were_written() -> None:
    config = accepted(
        cli.TRAIN,
        "experiment=xlm_clm_ende_1024",
        "data.dir=my data, [1]=x",
        "trainer.devices=[0,2]",
        "optimizer.lr=1e-3",
        "logger=[wandb,tensorboard,trackio]",
        "++seed=7",
    )
    assert isinstance(config, Train)
    assert config.data.dir == "my data, [1]=x"
    assert config.trainer.devices == [0, 2]
    assert config.optimizer.lr == 1e-3
    assert config.logger.wandb is not None
    assert config.logger.wandb.group is None
    assert config.logger.tensorboard is not None
    assert config.logger.trackio is not None
    assert config.seed == 7
    assert yaml.safe_load(yaml.safe_dump(asdict(config))) == asdict(config)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_accepted_as_a_word(precision: str) -> None:
    config = accepted(cli.TRAIN, f"trainer.precision={precision}", "trainer.accelerator=gpu")
    assert config.trainer.precision == precision


# --- what is refused ------------------------------------------------------------------------------
WRONG = Path(__file__).with_name("wrong_command_lines.txt").read_text().splitlines()
ROWS = [tuple(part.strip() for part in row.split("|")) for row in WRONG if row[0] != "#"]

# name of the user's own experiment file | its text | what the complaint says
YAML_TRAPS = {
    "a key with a dot": ("opt.izer:\n  lr: 1\n", "unknown key 'opt.izer'"),
    "a broken header": ("# @p001\nseed: 3\n", "Expected header format"),
    "yes_or_no": ("optimizer:\n  name: no\n", "optimizer.name=False: must be a text"),
    "a_number": ("run:\n  experiment: 1.5\n", "run.experiment=1.5: must be a text"),
    "twice": ("seed: 1\nseed: 2\n", "twice.yaml, line 3: found duplicate key seed"),
    "tab": ("trainer:\n\tmax_steps: 3\n", "tab.yaml, line 3: found character '\\t'"),
    "open": ("trainer: [1\n", "open.yaml, line 3: expected ',' or ']'"),
    "mistyped": ("trainer:\n  max_stepz: 3\n", "Did you mean 'trainer.max_steps'?"),
    "interpolated": ("seed: ${sed}\n", "seed: Interpolation key 'sed' not found"),
    "scalar": ("trainer: 5\n", "trainer=5: holds keys"),
    "python": ("model:\n  _target_: os.system\n", "unknown key 'model._target_'"),
    "no_group": ("defaults:\n  - override /modle: tiny\n", "Could not override 'modle'"),
    "no_option": ("defaults:\n  - override /model: tny\n", "model=tny: choose one of base,"),
}


def expect_refusal(command: str, words: list[str], complaint: str) -> None:
    """Exit 2, at most two lines, nothing on stdout, nothing made in the current folder."""
    before = sorted(Path().rglob("*"))
    outcome = call(command, *words).expect(2)
    assert outcome.stderr.startswith(f"{command}: ")
    assert complaint in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 2
    assert outcome.stdout == ""
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(("line", "complaint"), ROWS, ids=lambda part: part)
def test_a_mistake_is_told_in_a_line(
    line: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *words = shlex.split(line)
    expect_refusal(command, words, complaint)


@pytest.mark.parametrize("name", YAML_TRAPS)
def test_traps_of_yaml(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, complaint = YAML_TRAPS[name]
    own_experiment(tmp_path, name, f"# @package _global_\n{text}")
    monkeypatch.chdir(tmp_path)
    words = ["--config-dir=own", f"experiment={name}", "data.dir=x", "run.dir=y"]
    expect_refusal("xlm-train", words, complaint)


def own_experiment(folder: Path, name: str, text: str) -> None:
    file = folder / "own" / "experiment" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_an_experiment_without_its_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_experiment(tmp_path, "mine", "seed: 3\n")
    monkeypatch.chdir(tmp_path)
    words = ["--config-dir=own", "experiment=mine", "data.dir=x"]
    expect_refusal("xlm-train", words, "experiment: the chosen file lacks its first line")


def test_a_file_that_is_not_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_experiment(tmp_path, "mine", "")
    (tmp_path / "own" / "experiment" / "mine.yaml").write_bytes(b"seed: \xff\xfe\n")
    monkeypatch.chdir(tmp_path)
    expect_refusal("xlm-train", ["--config-dir=own", "experiment=mine"], "not UTF-8")


@pytest.mark.parametrize(("written", "seed"), [("08", 8), ("1_000", 1000), ("'3'", 3)])
def test_numbers_that_yaml_reads_otherwise(written: str, seed: int, tmp_path: Path) -> None:
    own_experiment(tmp_path, "mine", f"# @package _global_\nseed: {written}\n")
    words = (f"--config-dir={tmp_path / 'own'}", "experiment=mine", "data.dir=x")
    assert accepted(cli.TRAIN, *words).seed == seed


def test_the_traceback_comes_back_on_request() -> None:
    outcome = call("xlm-train", "modle.layers=1", HYDRA_FULL_ERROR="1").expect(2)
    assert "Traceback (most recent call last)" in outcome.stderr
    assert outcome.stderr.endswith("unknown key 'modle.layers'. Did you mean 'model.layers'?\n")
