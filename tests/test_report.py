"""report.html: written by runs and by hand, read as a person reads it."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from chromium import DESKTOP, PHONE, Look, chromium
from crumbs import crumbs_of
from in_process import call

from xlm_lightning.report import leave_report
from xlm_lightning.reporting import plots
from xlm_lightning.reporting.coordinates import parallel_coordinates
from xlm_lightning.reporting.group_page import Member, group_page
from xlm_lightning.reporting.record import Point, RunRecord
from xlm_lightning.reporting.transfer import transfer_plot, transfer_rows, write_transfer

WORDS = (
    "experiment=debug",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "data.batch_size=2",
    "data.stream_length=16",
)


@pytest.fixture(scope="module")
def runs(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs: one on the corpus of known entropy, one with another learning rate."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (("first", ()), ("second", ("optimizer.lr=0.003",))):
        call(
            "xlm-train",
            *WORDS,
            f"data.dir={crumbs_of(prepared)}",
            f"run.dir={folder / name}",
            *more,
        ).expect()
    return folder


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "first", tmp_path / "first"))


def text_of(html: str) -> str:
    """What stands between the tags, scripts and styles left out."""
    html = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def specs_of(html: str) -> list[str]:
    return re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)


def write(folder: Path, *words: str) -> str:
    path = call("xlm-report", f"runs={folder}", *words).expect().result["report"]
    return Path(path).read_text("utf-8")


def test_a_run_leaves_its_report(runs: Path) -> None:
    html = (runs / "first" / "report.html").read_text("utf-8")
    text = text_of(html)
    valid = json.loads((runs / "first" / "summary.json").read_text())["valid"]
    assert f"{valid['de']['perplexity']:.3f}" in text
    assert "A causal language model of de and en: 1 layers, 32 wide" in text
    for heading in ("Results", "The course of the training", "What it writes", "Configuration"):
        assert heading in text
    assert "optimizer.lr 0.002 default 0.0001" in text
    assert "optimizer.eps 1e-08 optimizer" in text  # the default's own value has nothing beside it
    assert len(html) < 5_000_000


def test_plots_show_the_logged_figures(runs: Path) -> None:
    plots = [json.loads(spec) for spec in specs_of((runs / "first" / "report.html").read_text())]
    titles = [plot["layer"][0].get("encoding", {}).get("y", {}).get("title") for plot in plots]
    loss = plots[titles.index("loss")]["data"]["values"]
    rows = (runs / "first" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/loss")
    logged = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert [point["value"] for point in loss] == pytest.approx(logged, rel=1e-5)
    assert [point["step"] for point in loss] == list(range(1, 21))
    assert [point["tokens"] for point in loss] == [32 * step for step in range(1, 21)]


def test_words_stand_near_the_words_they_are_used_with(runs: Path) -> None:
    words = json.loads((runs / "first" / "words.json").read_text())["words"]
    languages = {word["word"]: word["language"] for word in words}
    assert (languages["und"], languages["and"]) == ("de", "en")
    assert not any(word["word"].endswith("@@") for word in words)


def test_what_a_run_wrote_is_text_and_nothing_else(copied: Path) -> None:
    attack = "</script><script>alert(1)</script>"
    (copied / "samples.md").write_text(f"## step 10\n\n**de** {attack}\n\n")
    words = json.loads((copied / "words.json").read_text())
    words["words"][0]["word"] = attack
    (copied / "words.json").write_text(json.dumps(words))
    html = write(copied)
    assert attack not in html
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in html


def test_runs_side_by_side(runs: Path, tmp_path: Path) -> None:
    text = text_of(write(runs))
    assert "2 runs: 2 finished" in text
    assert "optimizer.lr" in text
    assert "optimizer.eps" not in text  # the same in both
    out = tmp_path / "compared.html"
    listed = call("xlm-report", f"runs=[{runs / 'first'},{runs / 'second'}]", f"out={out}")
    assert listed.expect().result == {"report": str(out)}
    assert "0.003" in text_of(out.read_text())


def test_a_killed_run_is_shown_as_far_as_it_came(copied: Path) -> None:
    (copied / "summary.json").unlink()
    metrics = copied / "metrics.csv"
    metrics.write_text(metrics.read_text() + "21,3.0,")  # torn
    text = text_of(write(copied))
    assert "unfinished" in text
    assert "xlm-train run.dir=" in text
    assert "Perplexity of each language" in text


@pytest.mark.parametrize("name", ["summary.json", "provenance.json", "words.json"])
def test_damaged_files_are_named(name: str, copied: Path) -> None:
    (copied / name).write_text('{"status": ')
    told = call("xlm-report", f"runs={copied}").expect(2).stderr
    assert str(copied / name) in told
    assert len(told.splitlines()) <= 2


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    told = call("xlm-report", f"runs={tmp_path}").expect(2).stderr
    assert "neither a run" in told


def test_long_curves_are_drawn_by_means() -> None:
    points = [Point(step, 10.0 * step, 0.5 * step, float(step % 2)) for step in range(1, 4001)]
    (rows,) = [plots.curves({"loss": points}, "loss")["data"]["values"]]
    assert len(rows) == plots.MAX_POINTS
    assert {row["value"] for row in rows} == {0.5}
    assert rows[-1] | {"value": 0} == {
        "series": "loss",
        "step": 4000,
        "tokens": 40_000,
        "seconds": 2000.0,
        "time": "33 min 20 s",
        "value": 0,
    }


def test_coordinates_of_numbers_and_words() -> None:
    columns = [("lr", [0.1, 0.2, 0.3, 0.5]), ("init", ["b", "a", "b", None])]
    lines, labels = (
        layer["data"]["values"] for layer in parallel_coordinates(columns, "wxyz", None)["layer"]
    )
    places = {(line["run"], line["column"]): line["place"] for line in lines}
    assert [places[run, "lr"] for run in "wxyz"] == pytest.approx([0, 0.25, 0.5, 1])
    assert [places[run, "init"] for run in "wxyz"] == [1, 0, 1, None]
    assert [label["label"] for label in labels] == ["0.1", "0.3", "0.5", "a", "b"]


def test_translators_are_compared_by_bleu_unless_other_models_stand_beside() -> None:
    def page(*figures: tuple[float, float | None]) -> str:
        members = [
            Member(f"run {i}", "finished", {"seed": i}, perplexity, bleu, seconds=1.0)
            for i, (perplexity, bleu) in enumerate(figures)
        ]
        return group_page("a sweep", members)

    translators = page((3.0, 7.5), (5.0, 31.25))
    assert re.search(r"best run</span><b>run 1</b>.*mean BLEU 31.25", translators)
    assert re.findall(r'<button type="button">(\w+)</button>', translators)[2:4] == [
        *("BLEU", "perplexity")
    ]
    assert "to its BLEU; higher is better" in translators
    mixed = page((3.0, None), (5.0, 31.25))
    assert re.search(r"best run</span><b>run 0</b>.*mean perplexity 3.000", mixed)
    assert "BLEU" not in mixed.partition("<body")[2]


def test_paths_are_shown_from_where_they_part() -> None:
    assert _shown(None, "outputs/table2/clm", "outputs/table2/mlm") == ["null", "clm", "mlm"]
    assert _shown("outputs/runs/clm", "outputs/clm") == ["runs/clm", "clm"]
    for apart in (("clm", "outputs/clm"), ("a/", "b/"), ("a/", "a/")):
        assert _shown(*apart) == [*apart]


def _shown(*sources: str | None) -> list[str]:
    """The one choice of each of several members, as it stands before its perplexity."""
    members = [
        Member(f"run{i}", "finished", {"model.init_from": source}, 3.0, None, seconds=1.0)
        for i, source in enumerate(sources)
    ]
    return re.findall(r"\brun\d (\S+) 3.000", text_of(group_page("a sweep", members)))


def test_figures_that_are_far_apart_have_a_logarithmic_scale_but_bleu() -> None:
    rows = [
        {"step": 1.0, "valid/mean/perplexity": 900.0, "valid/mean/bleu": 0.3},
        {"step": 2.0, "valid/mean/perplexity": 3.0, "valid/mean/bleu": 30.0},
    ]
    run = replace(
        a_run(1, 1, 3.0),
        summary={"status": "finished"},
        provenance={"precision": {"asked": "auto", "used": "32-true"}},
        rows=rows,
    )
    page = group_page("a", [Member("a", "finished", {"seed": 1}, 3.0, 30.0, seconds=1.0, run=run)])
    axes = [json.loads(spec)["layer"][0]["encoding"]["y"] for spec in specs_of(page)]
    scales = {axis["title"]: axis["scale"].get("type", "plain") for axis in axes}
    assert scales == {"BLEU": "plain", "perplexity": "log"}


@pytest.mark.slow
def test_a_person_looks_at_it(runs: Path) -> None:
    """Nothing on the console, nothing from a network, all plots drawn, no line too wide."""
    write(runs)
    with chromium() as browser:
        for file in (runs / "first" / "report.html", runs / "report.html"):
            grounds = set()
            for width, scheme in ((DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")):
                look = Look(browser, file, width, scheme)  # type: ignore[arg-type]
                assert look.draw_all() >= 4
                assert look.said == []
                assert look.asked == [file.absolute().as_uri()]
                wide = look.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width
                ground = "getComputedStyle(document.body).backgroundColor"
                grounds.add(look.page.evaluate(ground))
            assert len(grounds) == 2


@pytest.mark.slow
def test_the_reader_chooses_axis_order_and_light(runs: Path) -> None:
    write(runs)
    with chromium() as browser:
        page = Look(browser, runs / "report.html", DESKTOP, "light").page
        page.locator(".plot svg.marks").first.wait_for()
        names = page.locator("table.sortable tbody td:first-child")
        head = page.get_by_role("button", name="optimizer.lr")
        head.click()
        ascending = names.all_inner_texts()
        head.click()
        assert names.all_inner_texts() == ascending[::-1]
        page.get_by_role("button", name="light / dark").click()
        assert page.locator("html").get_attribute("data-theme") == "dark"

        run = Look(browser, runs / "first" / "report.html", DESKTOP, "light")
        run.draw_all()
        axis = run.page.locator(".plot svg.marks").first.locator(".role-axis-label").first
        before = axis.text_content()
        run.page.get_by_label("steps").check()
        run.page.wait_for_function(
            "before => document.querySelector('.plot svg.marks .role-axis-label').textContent"
            " !== before",
            arg=before,
        )
        assert run.said == []


def test_a_report_that_cannot_be_written_is_told_and_the_run_ends_well(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk is full at last, or the folder is somebody else's: here a folder has its name."""
    (copied / "report.html").unlink()
    (copied / "report.html").mkdir()
    (copied / "report.html" / "kept").touch()
    complaint = call("xlm-report", f"runs={copied}").expect(2).stderr
    assert f"{copied / 'report.html'}: Is a directory; out=FILE" in complaint
    leave_report(copied)
    assert capsys.readouterr().err.startswith("no report: ")
    assert not list(copied.glob(".partial-*"))


def a_run(
    share: float,
    english: int,
    perplexity: float,
    status: str = "finished",
    before: float | None = None,
) -> RunRecord:
    """A run of `sweep=transfer`, as far as its plot looks at it; `before`: at step 0."""
    return RunRecord(
        name="",
        folder=Path(),
        summary={"status": status, "valid": {"de": {"perplexity": perplexity}}},
        config={"data": {"shares": {"de": share, "en": english}}},
        provenance={"data": {"splits": {"train": {"de": {}, "en": {}}}}},
        word_map={},
        evaluations=[],
        rows=[] if before is None else [{"step": 0, "valid/de/perplexity": before}],
        samples=[],
    )


def test_transfer_has_random_weights_beside_it_and_is_kept(tmp_path: Path) -> None:
    runs = [a_run(share, 1, 4 / share, before=90.0 + seed) for share in (0.1, 1) for seed in (0, 2)]
    runs += [a_run(1, 0, 9.0, before=92.0)]  # the same weights as with English
    write_transfer(tmp_path, runs)
    kept = json.loads((tmp_path / "transfer.json").read_text())
    (test,) = kept["tests"]
    told = {(row["x"], row["series"]): (row["value"], row["count"]) for row in test["rows"]}
    assert told == {
        (0.1, "with en"): (40, 2),
        (1.0, "with en"): (4, 2),
        (1.0, "alone"): (9, 1),
        (0.1, "random weights"): (91, 2),
        (1.0, "random weights"): (91, 2),
    }
    assert any("single run" in limit for limit in kept["limits"])
    write_transfer(tmp_path / "none", [a_run(1, 1, 4.0)])
    assert not (tmp_path / "none").exists()


def test_transfer_is_the_mean_over_seeds_with_its_interval() -> None:
    runs = [a_run(0.1, english, 10 * english + value) for english in (0, 1) for value in (6, 7, 8)]
    runs += [a_run(1, 1, 4.0), a_run(1, 1, 99.0, status="failed"), a_run(1, 0, math.inf)]
    language, rows = transfer_rows(runs)
    assert language == "de"
    told = {(row["x"], row["series"]): row for row in rows}
    assert set(told) == {(0.1, "alone"), (0.1, "with en"), (1.0, "with en")}
    alone = told[0.1, "alone"]
    half = 4.302653 / math.sqrt(3)  # Student's t for two degrees of freedom; their deviation is 1
    assert alone["value"] == 7
    assert (alone["low"], alone["high"]) == pytest.approx((7 - half, 7 + half), abs=1e-3)
    assert told[0.1, "with en"]["value"] == 17
    assert [told[1.0, "with en"][name] for name in ("value", "low", "high", "count")] == [
        4,
        4,
        4,
        1,
    ]
    plot = transfer_plot(runs)
    assert plot is not None
    assert plot.title == "How well de is known, by how much of it was read"
    assert transfer_plot([a_run(1, 1, 4.0), a_run(1, 0, 5.0)]) is None  # no two shares of German
    assert transfer_plot([]) is None
    other = a_run(0.1, 1, 6.0)
    dict(other.config)["data"]["alpha"] = 0.3
    assert transfer_rows([*runs, other]) == ("", [])  # no seed alone
