"""Training figures: loss, learning rate, gradient norm, tokens, speed and load, at few steps.

They go straight to the loggers: a `self.log` call costs 0.3-0.4 ms of every step whatever the
interval, adding a number to a tensor costs a microsecond.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.throughput import get_available_flops
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from xlm_lightning.task import LanguageModeling

_DTYPES = {"16": torch.float16, "bf": torch.bfloat16, "32": torch.float32}  # of matrix products


class TrainingFigures(Callback):
    """Logs `train/*` every `every_n_steps` optimizer steps; counts the tokens of the whole run."""

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.latest: dict[str, float] = {}
        self.tokens_seen = 0  # by all ranks, restarts included, up to step `steps_seen`
        self.steps_seen = 0
        self.tokens_by_language: dict[str, int] = {}  # the same; those of pairs by pair
        self.seconds = 0.0  # of training, validation and checkpoints left out
        self._objectives: list[str] = []
        self._nats = torch.zeros(0)  # (objectives,) summed losses since the last logging
        self._micro_batches: list[int] = []  # the same of their number
        self._tokens: dict[str, int] = {}  # of this rank, not yet counted above
        self._flops = 0.0  # of this rank, since the last logging
        self._peak_flops: float | None = None  # of all ranks in a second, where known
        self._load = (0.0, 0.0)  # seconds of the clock and of the CPU at the last logging
        self._last_step = 0
        self._mark = (0.0, 0)  # seconds and tokens_seen at the last logging
        self._started: float | None = None
        self._strategy: Strategy | None = None

    @property
    def tokens_per_second(self) -> float:
        """Speed of the whole run."""
        return self.tokens_seen / max(self.seconds, 1e-9)

    def setup(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: LanguageModeling, stage: str
    ) -> None:
        if stage != TrainerFn.FITTING:
            return
        self._strategy = trainer.strategy
        self._objectives = pl_module.objectives
        self._nats = torch.zeros(len(self._objectives))
        self._micro_batches = [0] * len(self._objectives)
        self.tokens_by_language = dict.fromkeys(pl_module.texts, 0)
        self._tokens = dict(self.tokens_by_language)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._nats = self._nats.to(pl_module.device)
        self._last_step = trainer.global_step
        self._mark = (self.seconds, self.tokens_seen)
        self._load = (time.perf_counter(), time.process_time())
        peak = _peak_flops(pl_module.device, str(trainer.precision))
        self._peak_flops = None if peak is None else peak * trainer.world_size

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._started is None:
            self._started = time.perf_counter()

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: pl.Trainer,
        pl_module: LanguageModeling,
        outputs: Mapping[str, torch.Tensor],
        batch: Mapping[str, Any],
        batch_idx: int,
    ) -> None:
        objective = self._objectives.index(batch["objective"])
        self._nats[objective] += outputs["nats"]
        self._micro_batches[objective] += 1
        self._count(pl_module, batch)
        step = trainer.global_step
        if step == self._last_step or step % self.every_n_steps:
            self._last_step = step
            return
        self._last_step = step
        self._log(trainer, pl_module, step)

    def _count(self, task: LanguageModeling, batch: Mapping[str, Any]) -> None:
        self._tokens[task.text_of(batch)] += batch["real_tokens"]
        self._flops += task.flops(batch)

    def _log(self, trainer: pl.Trainer, task: LanguageModeling, step: int) -> None:
        nats = self._mean_nats()
        self._add_tokens(step)
        loss = sum(nats) / sum(self._micro_batches)
        self._stop_clock()
        before_seconds, before_tokens = self._mark
        elapsed = max(self.seconds - before_seconds, 1e-9)
        self.latest = {
            "train/loss": loss,
            "train/perplexity": math.exp(min(loss, 700)),
            **self._by_objective(nats),
            "train/learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train/gradient_norm": float(task.gradient_norm),
            "train/tokens_per_second": (self.tokens_seen - before_tokens) / elapsed,
            "train/tokens_seen": self.tokens_seen,
            **{f"train/{name}/tokens_seen": n for name, n in self.tokens_by_language.items()},
            **self._flops_per_second(elapsed),
            **self._machine(task.device),
        }
        for logger in trainer.loggers:
            logger.log_metrics(self.latest, step=step)
        self._nats.zero_()
        self._micro_batches = [0] * len(self._objectives)
        self._mark = (self.seconds, self.tokens_seen)
        self._started = time.perf_counter()

    def _mean_nats(self) -> list[float]:
        """Summed losses, mean over ranks: these may be training on different languages."""
        assert self._strategy is not None
        nats: list[float] = self._strategy.reduce(self._nats.clone(), reduce_op="mean").tolist()
        return nats

    def _add_tokens(self, step: int) -> None:
        """Batches of sentence pairs differ in size, so ranks have to be asked."""
        assert self._strategy is not None
        own = list(self._tokens.values())
        counts = torch.tensor(own, dtype=torch.float64, device=self._nats.device)
        new: list[float] = self._strategy.reduce(counts, reduce_op="sum").tolist()
        for name, tokens in zip(self._tokens, new, strict=True):
            self.tokens_by_language[name] += int(tokens)
        self.tokens_seen += int(sum(new))
        self._tokens, self.steps_seen = dict.fromkeys(self._tokens, 0), step

    def _flops_per_second(self, seconds: float) -> dict[str, float]:
        """What all ranks have done for the model, and its share of what they could do."""
        assert self._strategy is not None
        own = torch.tensor(self._flops, dtype=torch.float64, device=self._nats.device)
        speed = float(self._strategy.reduce(own, reduce_op="sum")) / seconds
        self._flops = 0.0
        told = {"train/teraflops_per_second": speed / 1e12}
        if self._peak_flops is not None:
            told["train/model_flop_utilisation"] = speed / self._peak_flops
        return told

    def _machine(self, device: torch.device) -> dict[str, float]:
        """Memory or load of the rank that writes: the peak of a GPU, or how many cores were busy
        (threads of this process, on the mean since the last logging)."""
        if device.type == "cuda":
            return {"train/gpu_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
        clock, cpu = self._load
        self._load = (time.perf_counter(), time.process_time())
        return {"train/cpu_cores_used": (self._load[1] - cpu) / (self._load[0] - clock)}

    def _by_objective(self, nats: Sequence[float]) -> dict[str, float]:
        """The loss of each objective, where there are several; one that rested has none."""
        if len(self._objectives) == 1:
            return {}
        rows = zip(self._objectives, nats, self._micro_batches, strict=True)
        return {f"train/{name}/loss": total / count for name, total, count in rows if count}

    def _stop_clock(self) -> None:
        if self._started is not None:
            self.seconds += time.perf_counter() - self._started
            self._started = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_clock()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._add_tokens(trainer.global_step)
        self._stop_clock()

    def state_dict(self) -> dict[str, Any]:
        """Counters, and the loss since the last logging, so that a resumed curve is the same.

        All ranks call it; the state of one of them is kept.
        """
        self._add_tokens(self._last_step)
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return {
            "tokens_seen": self.tokens_seen,
            "tokens_by_language": dict(self.tokens_by_language),
            "steps_seen": self.steps_seen,
            "seconds": self.seconds + running,
            "nats": self._mean_nats(),
            "micro_batches": self._micro_batches,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens_seen = state_dict["tokens_seen"]
        self._load_tokens_by_language(state_dict.get("tokens_by_language"))
        self.steps_seen = state_dict["steps_seen"]
        self.seconds = state_dict["seconds"]
        self._nats = torch.tensor(state_dict["nats"])
        self._micro_batches = state_dict["micro_batches"]

    def _load_tokens_by_language(self, counted: Mapping[str, int] | None) -> None:
        if counted is None:
            rank_zero_only(print)(
                "the checkpoint is of a version that did not count tokens by language: "
                "train/LANGUAGE/tokens_seen begins at 0 here",
                file=sys.stderr,
            )
        else:  # another text may have other languages (data.reorder)
            self.tokens_by_language = {n: counted.get(n, 0) for n in self.tokens_by_language}


def _peak_flops(device: torch.device, precision: str) -> float | None:
    """Of one device, where Lightning knows it: no CPU, but most GPUs."""
    if device.type != "cuda" or precision[:2] not in _DTYPES:
        return None
    return get_available_flops(device, _DTYPES[precision[:2]])
