"""Every command line of the README runs, with a tiny model and tiny files."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import pytest
from commands import run
from crumbs import crumbs_of

README = Path(__file__).resolve().parent.parent / "README.md"
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


def command_lines() -> list[str]:
    """The xlm-* command lines of the fenced blocks, continued lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    joined = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in joined if line.startswith("xlm-")]


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
    for name in ("data/ende", "outputs/data/sample", "outputs/data/debug"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(crumbs_of(prepared))
    run(
        "xlm-train", *TINY_MODEL, "experiment=sample", "run.dir=outputs/sample/RUN", cwd=folder
    ).expect()
    return folder


def test_the_readme_shows_every_command() -> None:
    shown = {line.split()[0] for line in command_lines()}
    assert shown == {"xlm-prepare", "xlm-train", "xlm-evaluate", "xlm-generate", "xlm-export"}


@pytest.mark.parametrize("line", command_lines())
def test_a_command_of_the_readme_runs(line: str, folder: Path) -> None:
    command, *words = shlex.split(line, comments=True)
    if "corpus=newscrawl" in words:
        # The download itself runs against a loopback server in tests/data_prep.
        assert "newscrawl" in run(command, *words, "--cfg", "job", cwd=folder).expect().stdout
        return
    if command == "xlm-prepare":
        words = [word.replace("bpe.merges=8000", "bpe.merges=50") for word in words]
    if command == "xlm-train":
        words += TINY_MODEL
    if command == "xlm-generate":
        words += ["max_new_tokens=3"]
    outcome = run(command, *words, cwd=folder).expect()
    assert outcome.result
