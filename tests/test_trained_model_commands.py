"""xlm-evaluate and xlm-generate on a run that xlm-train has just made."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from commands import run
from in_process import call


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Run folder and summary of a short run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    outcome = run(
        "xlm-train",
        "experiment=debug",
        "trainer.accelerator=cpu",
        "trainer.precision=32",
        "trainer.max_steps=20",
        f"data.dir={prepared}",
        f"run.dir={folder}",
    ).expect()
    return folder, outcome.result


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_repeats_the_summary(trained: tuple[Path, dict], split: str) -> None:
    folder, summary = trained
    result = call("xlm-evaluate", f"checkpoint={folder}", f"split={split}").expect().result
    for language in ("de", "en"):
        for name, value in summary[split][language].items():
            assert result[language][name] == pytest.approx(value, rel=1e-5)
    assert result["mean"]["perplexity"] == pytest.approx(summary[split]["mean"]["perplexity"])
    assert result["limit"]["de"]["perplexity"] > 1


def test_the_definition_of_the_original_scores_one_token_less_a_block(
    trained: tuple[Path, dict],
) -> None:
    folder, summary = trained
    result = call("xlm-evaluate", f"checkpoint={folder}", "definition=xlm").expect().result
    blocks = math.ceil(summary["valid"]["de"]["tokens"] / 32)  # experiment=debug: 32 tokens
    assert result["de"]["tokens"] == blocks * 31
    assert result["de"]["perplexity"] > summary["valid"]["de"]["perplexity"]  # less context


def test_batch_size_does_not_change_the_score(trained: tuple[Path, dict]) -> None:
    folder, summary = trained
    result = call("xlm-evaluate", f"checkpoint={folder}", "batch_size=3").expect().result
    expected = summary["valid"]["de"]["nll_nats"]
    assert result["de"]["nll_nats"] == pytest.approx(expected, rel=1e-5)
    assert result["de"]["tokens"] == summary["valid"]["de"]["tokens"]


def test_lines_are_scored_one_by_one(trained: tuple[Path, dict], tmp_path: Path) -> None:
    folder, _ = trained
    file = tmp_path / "lines.txt"
    file.write_text("The old teacher saw a house.\n\u2028strange\n\nThe old teacher saw a house.\n")
    words = (f"checkpoint={folder}", "language=en")
    result = call("xlm-evaluate", *words, f"text_file={file}").expect().result
    assert len(result["lines"]) == 4  # U+2028 is no line break
    first, last = result["lines"][0], result["lines"][3]
    assert first["nll_nats"] == pytest.approx(last["nll_nats"])
    assert first["perplexity"] == pytest.approx(math.exp(first["nll_nats"] / first["tokens"]))
    total = sum(line["nll_nats"] for line in result["lines"])
    assert result["en"]["nll_nats"] == pytest.approx(total)
    assert 0 < result["en"]["accuracy"] < 1
    alone = call("xlm-evaluate", *words, "text=The old teacher saw a house.").expect().result
    assert alone["lines"][0]["nll_nats"] == pytest.approx(first["nll_nats"], rel=1e-5)


def test_generation(trained: tuple[Path, dict]) -> None:
    folder, _ = trained
    words = (f"checkpoint={folder}", "prompt=The old", "num_samples=8", "max_new_tokens=60")
    first = call("xlm-generate", *words, "language=en", "seed=4").expect().result
    assert len(first["texts"]) == 8
    assert all(text.startswith("The old") for text in first["texts"])
    assert first["tokens_per_second"] > 0
    again = call("xlm-generate", *words, "language=en", "seed=4").expect().result
    assert again["texts"] == first["texts"]
    german = call("xlm-generate", *words, "language=de", "seed=4").expect().result
    assert german["texts"] != first["texts"]


@pytest.mark.parametrize(
    ("command", "words", "named"),
    [
        ("xlm-generate", ["language=fr"], "language=fr"),
        ("xlm-evaluate", ["split=valid", "data.dir={empty}"], "manifest.json"),
        ("xlm-evaluate", ["text_file={empty}/none.txt", "language=en"], "none.txt"),
        ("xlm-evaluate", ["text=hello"], "language"),
    ],
)
def test_mistakes_are_told_in_a_line(
    trained: tuple[Path, dict], tmp_path: Path, command: str, words: list[str], named: str
) -> None:
    folder, _ = trained
    filled = [word.format(empty=tmp_path) for word in words]
    refused = call(command, f"checkpoint={folder}", *filled).expect(2)
    assert named in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) <= 2
