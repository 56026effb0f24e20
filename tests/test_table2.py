"""Table 2: translators by what they started from, means over seeds, the paper's figures beside."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from xlm_lightning.reporting.group_page import Member, group_page
from xlm_lightning.reporting.record import RunRecord
from xlm_lightning.reporting.seeds import interval, rest
from xlm_lightning.reporting.table2 import Cell, markdown, table2, write_table2

T2 = 4.302653  # Student's t of a 95 % interval, two degrees of freedom


def a_run(
    start: Sequence[str],
    bleu: Mapping[str, float],
    *,
    seed: int = 0,
    status: str = "finished",
    lr: float = 0.001,
    split: str = "test",
) -> RunRecord:
    """A translator of a sweep, as far as the table looks at it; `bleu` by direction."""
    encoder, decoder = start
    figures: dict[str, Any] = {name: {"bleu": value} for name, value in bleu.items()}
    summary = {"valid": {"de-en": {"bleu": 99.0}}} | {split: {**figures, "mean": {"bleu": 50.0}}}
    folders = {name: f"outputs/table2/{name}" for name in ("clm", "mlm")}
    return RunRecord(
        name="",
        folder=Path(),
        summary={"status": status, **summary},
        config={
            "seed": seed,
            "run": {"dir": f"outputs/{encoder}-{decoder}-{seed}"},
            "model": {
                "dim": 16,
                "encoder_from": folders.get(encoder),
                "decoder_from": folders.get(decoder),
            },
            "optimizer": {"lr": lr},
        },
        provenance={
            "start": {"encoder": encoder, "decoder": decoder},
            "precision": {"asked": "auto", "used": "32-true"},
        },
        word_map={},
        evaluations=[],
        rows=[],
        samples=[],
    )


def three(start: Sequence[str], middle: float) -> list[RunRecord]:
    """Runs of three seeds, whose BLEU deviates by 1; `en-fr` is in the paper, `nl-en` is not."""
    return [
        a_run(start, {"en-fr": middle + by, "nl-en": 5.0}, seed=seed)
        for seed, by in enumerate((-1.0, 0.0, 1.0))
    ]


@pytest.fixture
def runs() -> list[RunRecord]:
    return [
        *three(("mlm", "mlm"), 30.0),
        *three(("clm", "none"), 20.0),
        *three(("none", "none"), 1),
    ]


def only(cells: Sequence[Cell], encoder: str, decoder: str) -> Cell:
    (cell,) = (one for one in cells if (one.encoder, one.decoder) == (encoder, decoder))
    return cell


def test_a_cell_is_the_mean_over_seeds_with_its_interval(runs: list[RunRecord]) -> None:
    cell = only(table2(runs), "mlm", "mlm")
    assert cell.seeds == 3
    assert list(cell.scores) == ["en-fr", "nl-en"]
    score, half = cell.scores["en-fr"], T2 / math.sqrt(3)
    assert score.mean == 30
    assert (score.low, score.high) == pytest.approx((30 - half, 30 + half), abs=1e-3)
    alike = cell.scores["nl-en"]
    assert (alike.mean, alike.low, alike.high) == (5, 5, 5)


def test_cells_come_in_the_order_of_the_paper(runs: list[RunRecord]) -> None:
    other = three(("tlm", "none"), 9.0)  # no start of the paper's
    found = [(cell.encoder, cell.decoder) for cell in table2([*other, *runs])]
    assert found == [("none", "none"), ("clm", "none"), ("mlm", "mlm"), ("tlm", "none")]


def test_the_figures_of_the_paper_stand_beside(runs: list[RunRecord]) -> None:
    """Those of the last row are the ones that other papers repeat, 34.3 that of its abstract."""
    starts = [("mlm", "mlm"), ("none", "none"), ("tlm", "none")]
    names = ("en-fr", "fr-en", "en-de", "de-en", "en-ro", "ro-en", "nl-en")
    cells = table2([a_run(start, dict.fromkeys(names, 1.0)) for start in starts])

    def paper(encoder: str, decoder: str) -> list[float | None]:
        return [score.paper for score in only(cells, encoder, decoder).scores.values()]

    assert paper("mlm", "mlm") == [33.4, 33.3, 26.4, 34.3, 33.3, 31.8, None]
    assert paper("none", "none") == [13.0, 15.8, 6.7, 15.3, 18.9, 18.3, None]
    assert paper("tlm", "none") == [None] * 7


def test_test_is_scored_and_valid_where_there_is_no_test() -> None:
    starts = (("none", "none"), ("mlm", "mlm"))
    tested = table2([a_run(start, {"de-en": 7.0}) for start in starts])
    assert [cell.scores["de-en"].mean for cell in tested] == [7, 7]
    validated = table2([a_run(start, {"de-en": 6.0}, split="valid") for start in starts])
    assert [cell.scores["de-en"].mean for cell in validated] == [6, 6]


def test_runs_that_say_nothing_are_left_out(runs: list[RunRecord]) -> None:
    language_model = a_run(("none", "none"), {"de": 1.0})
    object.__setattr__(language_model, "provenance", {"start": {"model": "none"}})
    silent = [
        language_model,
        a_run(("clm", "clm"), {"en-fr": 9.0}, status="failed"),
        a_run(("clm", "clm"), {"en-fr": math.nan}),
    ]
    assert table2([*runs, *silent]) == table2(runs)
    assert [cell.encoder for cell in table2(runs)] == ["none", "clm", "mlm"]


def test_there_is_no_table_of_runs_that_do_not_compare(runs: list[RunRecord]) -> None:
    assert table2([]) == []
    assert table2(three(("mlm", "mlm"), 30.0)) == []  # one start has nothing beside it
    assert table2([*runs, a_run(("clm", "clm"), {"en-fr": 9.0}, lr=0.002)]) == []


def test_the_table_is_kept_as_csv_and_markdown(runs: list[RunRecord], tmp_path: Path) -> None:
    write_table2(tmp_path, runs)
    with (tmp_path / "table2.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6  # three starts, two directions
    half = T2 / math.sqrt(3)
    assert rows[4] == {
        "encoder": "mlm",
        "decoder": "mlm",
        "seeds": "3",
        "direction": "en-fr",
        "bleu": "30.00",
        "low": f"{30 - half:.2f}",
        "high": f"{30 + half:.2f}",
        "paper": "33.4",
    }
    assert rows[5]["paper"] == ""
    assert (tmp_path / "table2.md").read_text().splitlines() == [
        "| encoder | decoder | seeds | en-fr | nl-en |",
        "| --- | --- | --- | --- | --- |",
        "| none | none | 3 | 1.0 (0.0 to 3.5); paper 13.0 | 5.0 (5.0 to 5.0) |",
        "| clm | none | 3 | 20.0 (17.5 to 22.5); paper 28.7 | 5.0 (5.0 to 5.0) |",
        "| mlm | mlm | 3 | 30.0 (27.5 to 32.5); paper 33.4 | 5.0 (5.0 to 5.0) |",
    ]
    write_table2(tmp_path / "none", three(("mlm", "mlm"), 30.0))
    assert not (tmp_path / "none").exists()


def test_a_single_seed_has_no_interval() -> None:
    runs = [a_run(start, {"nl-en": 3.0}) for start in (("none", "none"), ("mlm", "mlm"))]
    assert markdown(table2(runs))[-1] == "| mlm | mlm | 1 | 3.0 |"


def test_the_page_of_a_sweep_shows_the_table(runs: list[RunRecord]) -> None:
    def page(of: Sequence[RunRecord]) -> str:
        members = [
            Member(str(i), "finished", {}, None, None, None, run=run) for i, run in enumerate(of)
        ]
        return group_page("a sweep", members)

    shown = page(runs).partition('<h2 id="table2">')[2].partition("</table>")[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", shown, re.DOTALL)
    row = [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in cells[-5:]]
    assert row == ["mlm", "mlm", "3", "30.0 27.5&ndash;32.5 33.4", "5.0 5.0&ndash;5.0"]
    assert 'id="table2"' not in page(three(("mlm", "mlm"), 30.0))


# --- seeds ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("count", "t"), [(2, 12.706), (3, 4.303), (11, 2.228), (40, 1.96)])
def test_an_interval_is_students(count: int, t: float) -> None:
    values = [float(i) for i in range(count)]
    mean = (count - 1) / 2
    deviation = math.sqrt(sum((x - mean) ** 2 for x in values) / (count - 1))
    half = t * deviation / math.sqrt(count)
    found = interval(values, at_least=-1e9)
    assert (found["low"], found["high"]) == pytest.approx((mean - half, mean + half))
    assert interval(values, at_least=mean)["low"] == mean


def test_one_value_is_its_own_interval() -> None:
    assert interval([7.0], at_least=0) == {"low": 7.0, "high": 7.0}


def test_runs_are_alike_but_for_seed_folder_and_what_is_compared() -> None:
    one = a_run(("none", "mlm"), {}, seed=1)
    other = a_run(("clm", "mlm"), {}, seed=2)
    assert rest(one, "model.encoder_from") == rest(other, "model.encoder_from")
    assert rest(one) != rest(other)
    assert rest(one, "model.encoder_from") != rest(
        a_run(("none", "none"), {}), "model.encoder_from"
    )
