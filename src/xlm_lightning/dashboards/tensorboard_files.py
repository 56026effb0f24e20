"""TensorBoard's files, below the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pytorch_lightning.utilities import rank_zero_only

from xlm_lightning.dashboards.dashboard import Dashboard, Sample, final_figures

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardFiles(Dashboard):
    """A file a start; each but the first tells readers from which step on the others are void."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.folder = folder
        self._config = config
        self._opened: SummaryWriter | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        writer = self._writer(step or 0)
        for name, value in metrics.items():
            if name != "epoch":
                writer.add_scalar(name, value, step)
        writer.flush()  # within two minutes otherwise, which a kill would take

    def log_samples(self, samples: Sequence[Sample], step: int) -> None:
        """See `Dashboard`; Markdown is what TensorBoard reads."""
        writer = self._writer(step)
        for place, sample in enumerate(samples):
            writer.add_text(f"samples/{place}", f"**{sample.title}** {sample.text}", step)
        writer.flush()

    def close(self, summary: Mapping[str, Any]) -> None:
        """See `Dashboard`."""
        if figures := final_figures(summary):
            self._writer(summary["steps"] + 1)  # after a run that had nothing left to train
            self.log_metrics(figures, summary["steps"])
        if self._opened is not None:
            self._opened.close()

    def _writer(self, first_step: int) -> SummaryWriter:
        if self._opened is None:
            from torch.utils.tensorboard import SummaryWriter

            self._opened = SummaryWriter(str(self.folder), purge_step=first_step)
            shown = yaml.safe_dump(dict(self._config), sort_keys=False)
            self._opened.add_text("config", f"```yaml\n{shown}```", first_step)
        return self._opened
