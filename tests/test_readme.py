"""The command lines of README, docs and --help run, with a tiny model and tiny files."""

from __future__ import annotations

import gzip
import shlex
import shutil
from pathlib import Path

import pytest
from commands import command_lines, examples_of, run
from crumbs import crumbs_of
from in_process import COMMANDS, call

ROOT = Path(__file__).resolve().parent.parent
README = command_lines((ROOT / "README.md").read_text("utf-8"))
PAGES = [page for page in sorted(ROOT.glob("docs/*.md")) if command_lines(page.read_text("utf-8"))]
# Models that are not here, and a sweep, as the README has one: composed in tests/test_config.py.
LEFT_OUT = ("FacebookAI/", ".pth", "xlm-train -m")
TINY_MODEL = (
    "model.layers=1",
    "model.dim=16",
    "model.heads=2",
    "data.batch_size=16",
    "data.stream_length=64",
    "data.workers=0",
    "data.max_valid_tokens=100",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "trainer.max_steps=2",
    "trainer.accumulate_grad_batches=1",
    "trainer.val_check_interval=2",
    "schedule.warmup_steps=1",
)


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with what the README's commands find: text files, data, a trained run."""
    folder = tmp_path_factory.mktemp("readme")
    for split in ("train", "valid", "test"):
        for language in ("de", "en"):
            lines = [f"{split} {language} sentence {i} has {i % 7} words .\n" for i in range(400)]
            with gzip.open(folder / f"{split}.{language}.txt.gz", "wt", encoding="utf-8") as file:
                file.writelines(lines)
    for language in ("de", "en"):
        pairs = [f"{language} sentence {i} .\n" for i in range(50)]
        (folder / f"pairs.{language}.txt").write_text("".join(pairs), encoding="utf-8")
    given = {"a": "train.de", "b": "test.de", "valid.de": "valid.de", "valid.en": "valid.en"}
    for name, source in given.items():
        with gzip.open(folder / f"{source}.txt.gz") as file:
            (folder / f"{name}.txt").write_bytes(file.read())
    (folder / "prompts.txt").write_text("train de sentence\n")
    shutil.copy(folder / "train.en.txt.gz", folder / "en.txt.gz")
    for name in ("data/ende", "outputs/data/sample", "outputs/data/debug", "my_data"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(crumbs_of(prepared))
    for name in ("sample", "sample_mt"):
        where = (f"experiment={name}", f"run.dir=outputs/{name}/RUN")
        run("xlm-train", *TINY_MODEL, *where, cwd=folder).expect()
    return folder


def little(line: str) -> list[str]:
    """The words of a command line for little text and a tiny model."""
    command, *words = shlex.split(line, comments=True)
    if "corpus=newscrawl" in words:
        # The download itself runs against a loopback server in tests/data_prep.
        return [command, *words, "--cfg", "job"]
    if command == "xlm-prepare" and not any(word.startswith("verify=") for word in words):
        words = [word for word in words if not word.startswith("bpe.merges=")]
        words += ["bpe.merges=50"]
        words += [] if "corpus=text" in words else ["corpus.megabytes=0.02"]
    if command == "xlm-train":
        words += TINY_MODEL
    if command == "xlm-generate":
        words += ["max_new_tokens=3"]
    return [command, *words]


def test_the_readme_shows_every_command() -> None:
    assert {line.split()[0] for line in README} == set(COMMANDS)


@pytest.mark.parametrize("line", README)
def test_a_command_of_the_readme_runs(line: str, folder: Path) -> None:
    outcome = run(*little(line), cwd=folder).expect()
    assert "--cfg" in little(line) or outcome.result


@pytest.fixture
def workplace(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `folder`, the current one: a page or a help may write what another one writes."""
    shutil.copytree(folder, tmp_path / "workplace", symlinks=True)
    outputs = tmp_path / "workplace" / "outputs"
    for another in ("debug/RUN", "sweeps/NAME/0", "sweeps/NAME/1"):
        shutil.copytree(outputs / "sample" / "RUN", outputs / another)
    monkeypatch.chdir(tmp_path / "workplace")
    return tmp_path / "workplace"


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_their_order(page: Path) -> None:
    for line in command_lines(page.read_text("utf-8")):
        outcome = call(*little(line)).expect()
        assert "--cfg" in little(line) or outcome.result


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_examples_of_the_help_run(command: str, workplace: Path) -> None:
    if command == "xlm-prepare":
        (workplace / "my_data").unlink()  # it makes its own
    for line in examples_of(call(command, "--help").expect().stdout):
        if not any(word in line for word in LEFT_OUT):
            assert call(*little(line)).expect().result
