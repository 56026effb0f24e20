"""Weights & Biases, online or in files to be sent later by `wandb sync`.

Its x axis is the optimizer step, and it takes no step twice: what is sent stays. So a row is sent
when all of its step is known, and a run that goes on sends what is not there yet. That may be less
than it repeats (it was killed some steps after its checkpoint; the figures are the same), or more:
wandb loses what a killed run has not written or sent, up to 32 kB of it, and `metrics.csv` has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from xlm_lightning.dashboards.dashboard import Dashboard, Sample, final_figures
from xlm_lightning.dashboards.wandb_files import last_step, mend
from xlm_lightning.errors import UserError
from xlm_lightning.monitor import BLEU, PERPLEXITY

Rows = Iterable[tuple[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Labels:
    """How a run is found among others."""

    id: str
    name: str
    project: str
    entity: str | None
    group: str
    job_type: str
    tags: list[str]


class WandbRun(Dashboard):
    """One run of wandb, whatever number of processes it took."""

    def __init__(
        self,
        folder: Path,
        labels: Labels,
        config: Mapping[str, Any],
        earlier: Callable[[int], Rows],
        *,
        offline: bool,
        log_checkpoints: bool,
    ) -> None:
        """`earlier(step)`: the rows before `step` that the run knows from before a restart."""
        super().__init__()
        self.folder = folder
        self.labels = labels
        self.offline = offline
        self._config = dict(config)
        self._earlier = earlier
        self._log_checkpoints = log_checkpoints
        self._run: Any = None
        self._next = 0  # the first step that wandb does not have
        self._held: tuple[int, dict[str, Any]] | None = None  # the row of the step at work

    def open(self) -> None:
        """Begin or go on; `UserError` for a key or a network that fails."""
        import wandb
        from wandb.errors import Error

        mend(self.folder / "wandb", self.labels.id)
        before = last_step(self.folder / "wandb", self.labels.id) if self.offline else -1
        try:
            self._run = wandb.init(
                **asdict(self.labels),
                dir=self.folder,
                config=self._config,
                mode="offline" if self.offline else "online",
                resume=None if self.offline else "allow",
                settings=wandb.Settings(silent=True),
            )
        except Error as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"logger=wandb: {reason}; say logger.wandb.mode=offline, and later wandb sync"
            ) from error
        for monitor in (PERPLEXITY, BLEU):
            self._run.define_metric(monitor.name, summary=monitor.mode)
        self._next = before + 1 if self.offline else self._run.step
        told = f"offline; to send it: wandb sync {self.folder}/wandb/offline-run-*"
        print(f"wandb: {told if self.offline else self._run.url}", file=sys.stderr)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        step = step or 0
        if self._held is None:
            self._catch_up(step)
        elif self._held[0] != step:
            self._send(*self._held)
        row = {} if self._held is None or self._held[0] != step else self._held[1]
        self._held = (step, row | {k: v for k, v in metrics.items() if k != "epoch"})

    def log_samples(self, samples: Sequence[Sample], step: int) -> None:
        """See `Dashboard`; a table a validation."""
        import wandb

        table = wandb.Table(list(Sample._fields), [list(sample) for sample in samples])
        self.log_metrics({"samples": table}, step)

    def finalize(self, status: str) -> None:
        """A failed step is done again, and sent then."""
        if self._held is not None and status == "success":
            self._send(*self._held)

    def close(self, summary: Mapping[str, Any]) -> None:
        """See `Dashboard`; a run killed while it was scored at the end logs nothing any more."""
        self._catch_up(summary.get("steps", 0) + 1)
        self._run.summary.update(final_figures(summary))
        if self._log_checkpoints:
            for alias in ("best", "last"):
                self._keep(summary.get(f"{alias}_checkpoint"), alias)
        self._run.finish()

    def _catch_up(self, step: int) -> None:
        for past, row in self._earlier(step):
            self._send(past, row)

    def _send(self, step: int, row: Mapping[str, Any]) -> None:
        if step >= self._next:
            self._run.log(dict(row), step=step, commit=True)
            self._next = step + 1

    def _keep(self, checkpoint: str | None, alias: str) -> None:
        import wandb

        if checkpoint is not None:
            artifact = wandb.Artifact(f"{self.labels.id}-{alias}", type="model")
            artifact.add_file(checkpoint)
            self._run.log_artifact(artifact)
