"""xlm-generate on a run that xlm-train has just made: drawn, searched, one prompt or a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run
from crumbs import crumbs_of
from in_process import call

LINES = ["The old teacher", "A", "", "The old teacher saw a house and", "A"]


@pytest.fixture(scope="module")
def crumbs(prepared: Path) -> Path:
    return crumbs_of(prepared)


@pytest.fixture(scope="module")
def trained(crumbs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a short run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(
        "xlm-train",
        "experiment=debug",
        "trainer.accelerator=cpu",
        "trainer.precision=32",
        "trainer.max_steps=20",
        f"data.dir={crumbs}",
        f"run.dir={folder}",
    ).expect()
    return folder


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return file


def texts(trained: Path, *words: str) -> list[str]:
    fixed = (f"checkpoint={trained}", "language=en", "accelerator=cpu", "max_new_tokens=12")
    result = call("xlm-generate", *fixed, *words).expect().result
    assert result["tokens_per_second"] > 0
    return result["texts"]


@pytest.mark.parametrize("how", [["temperature=0"], ["beam=3"], ["beam=3", "length_penalty=0"]])
def test_texts_of_a_file_are_those_of_its_lines(
    trained: Path, prompt_file: Path, how: list[str]
) -> None:
    together = texts(trained, f"prompt_file={prompt_file}", *how)
    assert together == [texts(trained, f"prompt={line}", *how)[0] for line in LINES]
    assert all(text.startswith(line) for text, line in zip(together, LINES, strict=True))


def test_the_real_command_reads_a_file(trained: Path, prompt_file: Path) -> None:
    words = (f"checkpoint={trained}", "language=en", "accelerator=cpu", "max_new_tokens=12")
    outcome = run("xlm-generate", *words, f"prompt_file={prompt_file}", "temperature=0").expect()
    assert outcome.result["texts"] == texts(trained, f"prompt_file={prompt_file}", "temperature=0")


@pytest.mark.parametrize("how", [["num_samples=3", "seed=5"], ["num_samples=2", "beam=2"]])
def test_the_size_of_a_batch_changes_no_text(
    trained: Path, prompt_file: Path, how: list[str]
) -> None:
    at_once = texts(trained, f"prompt_file={prompt_file}", *how)
    samples = int(how[0].partition("=")[2])
    assert len(at_once) == samples * len(LINES)
    for place, text in enumerate(at_once):
        assert text.startswith(LINES[place // samples])
    for size in (1, 4):
        assert texts(trained, f"prompt_file={prompt_file}", *how, f"batch_size={size}") == at_once


def test_samples_of_equal_prompts_differ(trained: Path, prompt_file: Path) -> None:
    drawn = texts(trained, f"prompt_file={prompt_file}", "num_samples=2", "seed=1")
    assert len(set(drawn)) == len(drawn)
    assert drawn[:2] == texts(trained, f"prompt={LINES[0]}", "num_samples=2", "seed=1")
    assert drawn != texts(trained, f"prompt_file={prompt_file}", "num_samples=2", "seed=2")


def test_a_wider_beam_finds_other_texts(trained: Path) -> None:
    found = texts(trained, "prompt=The old", "beam=4", "num_samples=4")
    assert len(set(found)) > 1
    assert found[0] == texts(trained, "prompt=The old", "beam=4")[0]


def test_the_length_penalty_reaches_the_search(trained: Path) -> None:
    short, long = (
        texts(trained, "prompt=The old", "beam=4", f"length_penalty={penalty}", "num_samples=4")
        for penalty in (0, 5)
    )
    assert sum(map(len, short)) < sum(map(len, long))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["beam=0"], "beam=0: must be at least 1"),
        (["batch_size=0"], "batch_size=0"),
        (["length_penalty=-1", "beam=2"], "length_penalty=-1.0"),
        (["length_penalty=0.5"], "length_penalty=0.5"),
        (["beam=2", "num_samples=3"], "num_samples=3"),
        (["beam=2", "temperature=0.5"], "temperature=0.5"),
        (["beam=2", "top_k=5"], "top_k=5"),
        (["beam=2", "top_p=0.5"], "top_p=0.5"),
        (["prompt=x", "prompt_file={file}"], "prompt_file="),
        (["prompt_file={file}.none"], "prompts.txt.none"),
        (["prompt_file={empty}"], "empty.txt is empty"),
        (["prompt_file={binary}"], "line 1: not UTF-8 text"),
        (["prompt_file={long}"], "prompt_file, line 2"),
        (["prompt={words}"], "prompt: has"),
    ],
)
def test_mistakes_are_told_in_a_line(
    trained: Path, prompt_file: Path, tmp_path: Path, words: list[str], named: str
) -> None:
    many = "the house " * 600
    files = {
        "file": prompt_file,
        "words": many,
        "empty": tmp_path / "empty.txt",
        "binary": tmp_path / "binary.txt",
        "long": tmp_path / "long.txt",
    }
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"a\xff")
    (tmp_path / "long.txt").write_text(f"short\n{many}\n")
    filled = [word.format(**files) for word in words]
    refused = call("xlm-generate", f"checkpoint={trained}", "accelerator=cpu", *filled).expect(2)
    assert named in refused.stderr
    assert len(refused.stderr.strip().splitlines()) <= 2
