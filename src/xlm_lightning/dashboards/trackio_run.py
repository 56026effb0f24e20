"""Trackio: a dashboard on this machine, from a file below the run folder.

Its storage is written directly. `trackio.init` would ask the Hugging Face hub who is logged in, and
send the run wherever the environment (`TRACKIO_SPACE_ID`) says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from xlm_lightning.dashboards.dashboard import Dashboard, Sample, final_figures, run_name
from xlm_lightning.recall import flat


class TrackioRun(Dashboard):
    """One run of a project; a resumed one first drops what it repeats, and what its end was."""

    def __init__(
        self, run_folder: Path, project: str, folder: Path, config: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.folder = folder.absolute()
        self._project = project
        self._name = run_name(run_folder)
        self._config = dict(flat(config))
        self._started = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        step = step or 0
        self._start(step)
        row = {name: value for name, value in metrics.items() if name != "epoch"}
        self._storage().bulk_log(self._project, self._name, [row], [step], config=self._config)
        self._config = {}  # is kept once

    def log_samples(self, samples: Sequence[Sample], step: int) -> None:
        """See `Dashboard`; a table a validation."""
        rows = [sample._asdict() for sample in samples]
        self.log_metrics({"samples": {"_type": "trackio.table", "_value": rows}}, step)

    def close(self, summary: Mapping[str, Any]) -> None:
        """See `Dashboard`."""
        if figures := final_figures(summary):
            self._start(summary["steps"] + 1)  # after a run that had nothing left to train
            self.log_metrics(figures, summary["steps"])

    def _storage(self) -> Any:
        from trackio import sqlite_storage

        # read from the environment when trackio is imported, which may have been for another run
        vars(sqlite_storage)["TRACKIO_DIR"] = self.folder
        return sqlite_storage.SQLiteStorage

    def _start(self, first_step: int) -> None:
        if self._started:
            return
        self._started = True
        database: Path = self._storage().get_project_db_path(self._project)
        if database.is_file():
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute(
                    "DELETE FROM metrics WHERE run_name = ? "
                    """AND (step >= ? OR CAST(metrics AS TEXT) LIKE '{"final/%')""",
                    [self._name, first_step],
                )
