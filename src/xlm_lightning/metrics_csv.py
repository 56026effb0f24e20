"""`metrics.csv`: every logged figure of a run, in a file that survives restarts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from xlm_lightning.atomic import append_text, write_text
from xlm_lightning.errors import UserError


class MetricsCsv(Logger):
    """Appends rows; a resumed run first drops the rows at or after its first one.

    Lightning's own CSVLogger deletes an existing file at a restart.
    """

    def __init__(self, path: Path) -> None:
        """Raises `UserError` for a file that holds no figures of a run."""
        super().__init__()
        self.path = path
        self._read()
        self._columns: list[str] = []
        self._started = False

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration stands in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": step or 0, **{k: v for k, v in metrics.items() if k != "epoch"}}
        if not self._started:
            self._start(int(row["step"]))
        new_columns = [name for name in row if name not in self._columns]
        if new_columns:
            rows = self._read()
            self._columns += new_columns
            write_text(self.path, self._format(rows, header=True))
        append_text(self.path, self._format([row], header=False))

    def rows_before(self, step: int) -> list[tuple[int, dict[str, float]]]:
        """Return what is known of each step before `step`, as of now."""
        known: dict[int, dict[str, float]] = {}
        for row in self._read():
            at = int(row.pop("step"))
            if at < step:
                known.setdefault(at, {}).update({k: float(v) for k, v in row.items() if v != ""})
        return sorted(known.items())

    def _start(self, first_step: int) -> None:
        self._started = True
        rows = [row for row in self._read() if int(row["step"]) < first_step]
        if rows:
            self._columns = list(rows[0])
            write_text(self.path, self._format(rows, header=True))
        else:
            self.path.unlink(missing_ok=True)

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                if "step" not in (rows.fieldnames or ["step"]):
                    raise ValueError("no column step")
                return [row for row in rows if _is_whole(row)]
        except (ValueError, csv.Error) as error:
            raise UserError(f"{self.path} is damaged ({error}); move it elsewhere") from error

    def _format(self, rows: list[dict[str, Any]], *, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _is_whole(row: dict[str, Any]) -> bool:
    """A killed run may leave a torn last line: without a step, or with too few fields."""
    return None not in row.values() and row["step"].isdecimal()
