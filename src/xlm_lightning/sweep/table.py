"""The table of a sweep: `sweep.csv`, the same for the terminal, and the best job."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xlm_lightning.atomic import write_text
from xlm_lightning.sweep.answers import NOT_RUN, Ending
from xlm_lightning.sweep.jobs import Job

_ENDING = [field.name for field in fields(Ending)]


@dataclass(frozen=True)
class Row:
    """A job and what came of it."""

    choice: Mapping[str, str]  # values of the keys in which the jobs differ
    ending: Ending
    command: str  # of a single run, ready to be pasted


class Table:
    """What came of every job; a sweep that goes on finds it in its folder."""

    def __init__(self, path: Path | None, rows: Mapping[int, Row]) -> None:
        """`path` of the CSV file, None where the sweep has no folder; `rows` by job number."""
        self._path = path
        self._rows = dict(rows)

    @classmethod
    def of(cls, jobs: Sequence[Job], path: Path | None) -> Table:
        """Make a row for each job, with what the file at `path` knows of it and of others."""
        expected = {job.number: Row(job.choice, NOT_RUN, job.command) for job in jobs}
        known = {} if path is None or not path.is_file() else _read(path)
        return cls(path, expected | known)

    def __len__(self) -> int:
        return len(self._rows)

    def status(self, number: int) -> str:
        """What is known of a job."""
        return self._rows[number].ending.status

    def record(self, job: Job, ending: Ending) -> None:
        """Keep what came of a job, on disk too."""
        self._rows[job.number] = Row(job.choice, ending, job.command)
        if self._path is not None:
            write_text(self._path, self._as_csv())

    def best(self) -> dict[str, Any] | None:
        """Return the finished job of the lowest perplexity; of translators, the highest BLEU."""
        scored = [
            (-row.ending.merit, number)
            for number, row in self._rows.items()
            if row.ending.status == "finished"
            and row.ending.merit is not None
            and math.isfinite(row.ending.merit)
        ]
        if not scored:
            return None
        best = min(scored)[1]
        row = self._rows[best]
        bleu = {} if row.ending.bleu is None else {"bleu": row.ending.bleu}
        return {
            "job": best,
            "perplexity": row.ending.perplexity,
            **bleu,
            "run_dir": row.ending.run_dir,
            "command": row.command,
        }

    def count(self, status: str) -> int:
        """How many jobs ended so."""
        return sum(row.ending.status == status for row in self._rows.values())

    def exit_code(self) -> int:
        """That of the signal that stopped the sweep, else of the first job that failed, else 0."""
        endings = [row.ending for _, row in sorted(self._rows.items())]
        for ending in endings:
            if ending.status == "stopped":
                return ending.exit_code or 0
        for ending in endings:
            if ending.status == "failed":
                return ending.exit_code if ending.exit_code in (1, 2) else 1
        return 0

    def as_text(self) -> str:
        """A line for each job, in columns."""
        if not self._rows:
            return "no job was run"
        rows = sorted(self._rows.items())
        lines = [["job", *rows[0][1].choice, "mean", "by language", "status"]]
        for number, row in rows:
            ending = row.ending
            why = "" if ending.error is None else f": {ending.error}"
            choice = map(_short, row.choice.values())
            figures = [ending.figure, ending.by_language or ""]
            lines.append([str(number), *choice, *figures, ending.status + why])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def _as_csv(self) -> str:
        rows = [
            {"job": number, **row.choice, **asdict(row.ending), "command": row.command}
            for number, row in sorted(self._rows.items())
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _short(value: str) -> str:
    """The many digits of a drawn number are in the file and the command."""
    drawn = re.fullmatch(r"\d+\.\d{5,}(e-\d+)?", value)
    return f"{float(value):.4g}" if drawn else value


def _read(path: Path) -> dict[int, Row]:
    rows = {}
    with path.open(encoding="utf-8", newline="") as file:
        for values in csv.DictReader(file):
            number, command = int(values.pop("job")), values.pop("command")
            told: dict[str, Any] = {name: values.pop(name, "") or None for name in _ENDING}
            numbers = {"exit_code": int, "perplexity": float, "bleu": float, "seconds": float}
            for name, kind in numbers.items():
                told[name] = None if told[name] is None else kind(told[name])
            rows[number] = Row(values, Ending(**told), command)
    return rows
