"""What `xlm-report` may be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from xlm_lightning.legality import NotEmpty, OnThisMachine, Verbatim
from xlm_lightning.schema.kinds import Conflict


@dataclass
class Report:
    """xlm-report."""

    runs: Any  # a folder: of a run, of a sweep, of runs; or a list of run folders
    out: Annotated[str | None, NotEmpty(), OnThisMachine(), Verbatim()]

    def folders(self) -> list[str]:
        """One folder, or those of several runs."""
        return self.runs if isinstance(self.runs, list) else [self.runs]

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        folders = self.folders()
        if not folders or not all(isinstance(name, str) and name for name in folders):
            yield f"runs={self.runs}", "must be a folder, or a list of run folders such as [A,B]"
