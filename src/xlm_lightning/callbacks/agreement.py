"""All ranks of a run were told the same, or there is no run; the provenance says so of each."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from xlm_lightning.errors import RunFailed, UserError
from xlm_lightning.run_folder import RunFolder


class Agreement(Callback):
    """Compares the configurations of all ranks before training.

    Ranks that are started by hand, or by a program that chooses values in each process, could train
    together with different ones, and nothing would show it.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        resume_from: Path | None,
        describe: Callable[[pl.Trainer], Mapping[str, Any]],
    ) -> None:
        """`describe` returns the provenance of rank 0, which is written with a line for each."""
        self._run = run
        self._config = config
        self._overrides = list(overrides)
        self._resume_from = None if resume_from is None else str(resume_from)
        self._describe = describe

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Runs on all ranks as soon as they are connected; `UserError` where they differ."""
        if stage != TrainerFn.FITTING:
            return
        told = json.dumps(self._config, sort_keys=True)
        own = {
            "rank": trainer.global_rank,
            "host": socket.gethostname(),
            "overrides": self._overrides,
            "resume_from": self._resume_from,
            "config_sha256": hashlib.sha256(told.encode()).hexdigest(),
        }
        ranks: list[dict[str, Any]] = [own]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(gathered, own)
            ranks = gathered
        for other in ranks:
            if other["config_sha256"] != ranks[0]["config_sha256"]:
                raise UserError(
                    f"rank {other['rank']} on {other['host']} was started with other words than "
                    f"rank 0: {' '.join(other['overrides'])}, not "
                    f"{' '.join(ranks[0]['overrides'])}; start all ranks with the same"
                )
            if other["resume_from"] != ranks[0]["resume_from"]:
                raise RunFailed(
                    f"rank {other['rank']} on {other['host']} would go on from "
                    f"{other['resume_from']}, rank 0 from {ranks[0]['resume_from']}: they do not "
                    "see the same files; start all ranks again"
                )
        if trainer.is_global_zero:
            self._run.write_provenance({**self._describe(trainer), "ranks": ranks})
