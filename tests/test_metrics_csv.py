"""metrics.csv over restarts, new columns and torn lines."""

from __future__ import annotations

import csv
from pathlib import Path

from xlm_lightning.metrics_csv import MetricsCsv


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_new_columns_keep_old_rows(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    log = MetricsCsv(path)
    log.log_metrics({"loss": 2.0, "epoch": 0}, step=1)
    log.log_metrics({"loss": 1.5, "valid": 9.0}, step=2)
    assert rows(path) == [
        {"step": "1", "loss": "2.0", "valid": ""},
        {"step": "2", "loss": "1.5", "valid": "9.0"},
    ]


def test_a_resumed_run_replaces_what_it_repeats(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsCsv(path)
    for step in range(1, 8):
        first.log_metrics({"loss": float(step)}, step=step)
    resumed = MetricsCsv(path)  # from a checkpoint of step 4
    for step in range(5, 7):
        resumed.log_metrics({"loss": 10.0 + step}, step=step)
    assert [(row["step"], row["loss"]) for row in rows(path)] == [
        ("1", "1.0"),
        ("2", "2.0"),
        ("3", "3.0"),
        ("4", "4.0"),
        ("5", "15.0"),
        ("6", "16.0"),
    ]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsCsv(path)
    log.log_metrics({"loss": 1.0, "rate": 0.5}, step=1)
    log.log_metrics({"loss": 2.0, "rate": 0.5}, step=2)
    path.write_text(path.read_text()[:-6])  # killed while writing the second row
    MetricsCsv(path).log_metrics({"loss": 3.0, "rate": 0.5}, step=3)
    assert [row["step"] for row in rows(path)] == ["1", "3"]


def test_a_new_run_in_an_old_folder_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsCsv(path).log_metrics({"loss": 1.0}, step=5)
    MetricsCsv(path).log_metrics({"accuracy": 1.0}, step=1)
    assert rows(path) == [{"step": "1", "accuracy": "1.0"}]
