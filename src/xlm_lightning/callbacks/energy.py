"""Energy of a whole run: all machines, all starts."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from xlm_lightning.callbacks.figures import TrainingFigures
from xlm_lightning.energy_meter import FIGURES, EnergyMeter, visible_gpu_ids


class Energy(Callback):
    """Counts from the set-up of training to its last checkpoint, validations included; logs
    `energy/*` at each validation.

    Local rank 0 of each node measures it. What earlier starts have used comes with the checkpoint;
    what a killed one used after its last checkpoint is lost, and the summary says so.
    """

    def __init__(self, country: str, figures: TrainingFigures) -> None:
        self.figures = figures
        self.used = dict.fromkeys(FIGURES, 0.0)  # of all machines and starts, when last read
        self.seconds = 0.0
        self._country = country
        self._before = dict(self.used)  # of earlier starts
        self._seconds_before = 0.0
        self._first_token: int | None = None  # tokens that were seen before anything was measured
        self._starts_cut_short = 0
        self._meter: EnergyMeter | None = None  # of local rank 0
        self._described: dict[str, str] = {}
        self._trainer: pl.Trainer | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != TrainerFn.FITTING:
            return
        self._trainer = trainer
        if trainer.local_rank == 0:
            on_gpu = trainer.strategy.root_device.type == "cuda"
            devices = trainer.device_ids if on_gpu else []
            self._meter = EnergyMeter(self._country, visible_gpu_ids(devices))
            self._meter.start()
            self._described = self._meter.described()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._first_token is None:
            self._first_token = self.figures.tokens_seen

    def on_train_batch_end(self, *_: Any) -> None:
        if self._meter is not None:
            self._meter.read_when_due()

    def on_validation_batch_end(self, *_: Any) -> None:
        if self._meter is not None:
            self._meter.read_when_due()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._add_up()
        logged = {f"energy/{name}": self.used[name] for name in ("kwh", "kg_co2eq")}
        for logger in trainer.loggers:
            logger.log_metrics(logged, step=trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._add_up()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop()

    def on_exception(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._meter is not None:
            self._meter.stop()

    def _add_up(self) -> None:
        """All ranks call it."""
        assert self._trainer is not None
        strategy = self._trainer.strategy
        own = dict.fromkeys(FIGURES, 0.0) if self._meter is None else self._meter.read()
        here = torch.tensor([own[name] for name in FIGURES], dtype=torch.float64)
        of_all = strategy.reduce(here.to(strategy.root_device), reduce_op="sum")
        assert isinstance(of_all, torch.Tensor)
        rows = zip(FIGURES, of_all.tolist(), strict=True)
        self.used = {name: self._before[name] + value for name, value in rows}
        if self._meter is not None:
            self.seconds = self._seconds_before + self._meter.seconds

    def summary(self) -> dict[str, Any]:
        """Return what stands in `summary.json` under `energy`; rank 0 knows it."""
        tokens = self.figures.tokens_seen - (self._first_token or 0)
        result = {
            **self.used,
            "kwh_per_million_tokens": self.used["kwh"] / max(tokens, 1) * 1e6,
            "tokens": tokens,
            "seconds": self.seconds,
            **self._described,
        }
        if self._starts_cut_short:
            result["missing"] = (
                "What was used between a checkpoint and a kill, or after a checkpoint that the run "
                f"returned to, is not counted (occasions: {self._starts_cut_short})."
            )
        return result

    def state_dict(self) -> dict[str, Any]:
        """All ranks call it; the state of one of them is kept."""
        assert self._trainer is not None
        self._add_up()
        step, last = self._trainer.global_step, self._trainer.max_steps
        return {
            "used": self.used,
            "seconds": self.seconds,
            "first_token": self._first_token,
            "starts_cut_short": self._starts_cut_short,
            "is_end_of_a_start": self._trainer.should_stop or step == last,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = dict(state_dict["used"])
        self.used = dict(self._before)
        self.seconds = self._seconds_before = state_dict["seconds"]
        self._first_token = state_dict["first_token"]
        self._starts_cut_short = state_dict["starts_cut_short"]
        self._starts_cut_short += not state_dict["is_end_of_a_start"]
