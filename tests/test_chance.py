"""The report of several translation runs: is the difference between them chance?"""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pytest
from crumbs import LINES, crumbs_of
from in_process import call
from training import WORDS, summary

from xlm_lightning.bleu import bootstrap
from xlm_lightning.reporting.chance import compared
from xlm_lightning.reporting.record import RunRecord

DIRECTIONS = ("de-en", "en-de")
HEADING = "Is the difference chance?"


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two translators that differ in their seed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        call(
            "xlm-train", *WORDS, "objective=mt", "trainer.max_steps=120",
            "trainer.val_check_interval=120", "schedule.warmup_steps=10", "optimizer.lr=1e-2",
            "data.sentence_tokens=400", "data.slots_per_step=1", f"seed={seed}",
            f"data.dir={crumbs_of(prepared)}", f"run.dir={folder / str(seed)}",
        ).expect()  # fmt: skip
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def lines(run: Path, name: str) -> list[str]:
    return (run / "translations" / f"{name}.txt").read_text("utf-8").split("\n")[:-1]


def rows_of(report: Path) -> list[list[str]]:
    """The cells of the first comparison of a report."""
    table = report.read_text("utf-8").partition(f">{HEADING}<")[2].partition("</table>")[0]
    found = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in found]


def reported(runs: Path) -> Path:
    return Path(call("xlm-report", f"runs={runs}").expect().result["report"])


def named(runs: Path) -> list[tuple[str, RunRecord]]:
    return [(folder.name, RunRecord.read(folder)) for folder in sorted(runs.iterdir())]


def test_each_run_is_held_against_the_best_one(trained: Path) -> None:
    (comparison,) = compared(named(trained))
    assert (comparison.split, comparison.directions) == ("test", [*DIRECTIONS])
    told = {name: summary(trained / name)["test"] for name in ("1", "2")}
    means = [told[name]["mean"]["bleu"] for name, _ in comparison.rows]
    assert means == sorted(means, reverse=True)
    for number, direction in enumerate(DIRECTIONS):
        systems = [lines(trained / name, f"test.{direction}") for name in ("1", "2")]
        expected = bootstrap(systems, lines(trained / "1", f"test.{direction}.ref"))
        p_values = []
        for name, row in comparison.rows:
            judged, own = row[number], told[name][direction]
            assert judged.bleu == pytest.approx(own["bleu"])
            assert [judged.low, judged.high] == own["bleu_interval"]  # the draws are the same
            p_values.append(judged.p_value)
        assert sorted(p for p in p_values if p is not None) == [expected.p_values[0, 1]]
        bleu = [told[name][direction]["bleu"] for name, _ in comparison.rows]
        assert p_values[bleu.index(max(bleu))] is None


def test_a_perfect_translator_differs_from_the_others(runs: Path) -> None:
    perfect = shutil.copytree(runs / "1", runs / "perfect")
    for direction in DIRECTIONS:
        kept = perfect / "translations" / f"test.{direction}.txt"
        kept.write_bytes(kept.with_name(f"test.{direction}.ref.txt").read_bytes())
    again = shutil.copytree(perfect, runs / "perfect_again")
    report = reported(runs)
    rows = rows_of(report)
    assert [row[0] for row in rows[:2]] == [f"runs/{perfect.name}", f"runs/{again.name}"]
    assert rows[0][1:] == ["100.00 100.0–100.0", "best"] * 2
    assert rows[1][1:] == ["100.00 100.0–100.0", "1.000"] * 2
    assert {row[0] for row in rows[2:]} == {"runs/1", "runs/2"}
    assert {cell for row in rows[2:] for cell in row[2::2]} == {"0.001"}
    assert report.read_text().count(f">{HEADING}<") == 1


def test_runs_of_other_text_are_not_compared(runs: Path) -> None:
    file = runs / "2" / "translations" / "test.de-en.ref.txt"
    file.write_text(file.read_text("utf-8").replace("a", "o", 1))
    assert compared(named(runs)) == []
    assert HEADING not in reported(runs).read_text("utf-8")


def test_valid_is_compared_where_nothing_was_tested(runs: Path) -> None:
    for file in runs.glob("*/translations/test.*"):
        file.unlink()
    (comparison,) = compared(named(runs))
    assert comparison.split == "valid"
    assert len(lines(runs / "1", "valid.de-en.ref")) == LINES["valid"]


def test_what_is_incomplete_is_left_out(runs: Path) -> None:
    shutil.copytree(runs / "1", runs / "3")
    summary_file = runs / "1" / "summary.json"
    summary_file.write_text(summary_file.read_text().replace('"finished"', '"stopped"'))
    for file in (runs / "2" / "translations").glob("*.de-en.txt"):
        file.write_text("torn\n")
    assert compared(named(runs)) == []
    shutil.rmtree(runs / "2" / "translations")
    assert compared(named(runs)) == []
    assert HEADING not in reported(runs).read_text("utf-8")
