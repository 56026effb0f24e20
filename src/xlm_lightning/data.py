"""The data of a run: which blocks, which rank, which slot comes next.

The state of the data is the number of slots *consumed* by all ranks together, kept in this
module's `state_dict`: it is equal on all ranks (Lightning saves rank 0's only), it is restored
before anything asks for a loader, and it does not move with batches that were fetched ahead.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from xlm_lightning.callbacks.slot_counter import SlotCounter
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest, manifest_sha256
from xlm_lightning.streaming.continuity import is_continued
from xlm_lightning.streaming.loader import OrderedLoader, SlotBatches, TrainLoader
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.mirror import Mirror
from xlm_lightning.streaming.noise import Noise
from xlm_lightning.streaming.pair_slots import PairSlots
from xlm_lightning.streaming.pairs import PairShards, directions
from xlm_lightning.streaming.plan import PLAN_VERSION, Plan
from xlm_lightning.streaming.sentence_slots import SentenceSlots
from xlm_lightning.streaming.sentences import SentenceBatches
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.shares import Shares
from xlm_lightning.streaming.splits import ScoredSplit, require_parallel_text
from xlm_lightning.streaming.turns import AE, BT, MT, TLM, Curve, Turns

ENDLESS = 2**40  # micro-batches of a run without max_steps


class StreamingDataModule(pl.LightningDataModule):
    """Loaders of a prepared folder whose training order survives stops, kills and moves."""

    def __init__(
        self,
        folder: Path,
        *,
        batch_size: int,
        stream_length: int,
        alpha: float,
        shares: Mapping[str, float],
        workers: int,
        seed: int,
        slots_per_step: int,
        objectives: Mapping[str, Curve],
        masking: Masking,
        noise: Noise,
        sentence_tokens: int,
        sentence_max_length: int,
        max_positions: int,
        max_pairs: int | None = None,
        max_valid_tokens: int | None = None,
        overfit_slots: int | None = None,
        reorder: bool = False,
        mirror: Mirror | None = None,
    ) -> None:
        """Read and check the manifest of `folder`; `UserError` when it is not whole.

        `mirror`: brings the files of a folder that mirrors an object store. `shares`: see `Shares`.
        `slots_per_step` (ranks x accumulation) must stay the same when a run is resumed on another
        number of ranks. `objectives`: the weight of each one's loss, step by step.
        `sentence_tokens`: of a micro-batch of sentences, or of pairs, which have at most
        `sentence_max_length` tokens, or in valid and test as many as fit into `max_positions`.
        `max_pairs`: of the train text of each pair of languages, the first ones.
        `max_valid_tokens` limits validation during training, per language; `overfit_slots` trains
        on the first so many micro-batches of each objective for ever. `reorder`: a checkpoint of
        other data, or of another order, is gone on with all the same, from the first slot.
        """
        super().__init__()
        self.folder = folder
        self.mirror = mirror
        self.manifest = Manifest.load(folder) if mirror is None else mirror.manifest
        self.batch_size = batch_size
        self.stream_length = stream_length
        self.alpha = alpha
        self.shares = Shares(shares, self.manifest.languages)
        self.workers = workers
        self.seed = seed
        self.slots_per_step = slots_per_step
        self.turns = Turns(objectives, slots_per_step)
        self.masking = masking
        self.noise = noise
        self.sentence_tokens = sentence_tokens
        self.sentence_max_length = sentence_max_length
        self.max_positions = max_positions
        self.max_pairs = max_pairs
        self.directions = directions(chain(*self.manifest.parallel.values()))  # of translation
        require_parallel_text(self.manifest, folder, objectives)
        self.max_valid_tokens = max_valid_tokens
        self.overfit_slots = overfit_slots
        self.reorder = reorder
        self.slot = 0  # consumed by all ranks; the next one to train on
        self.begins_anew = False  # in a run that goes on, but with other data

    @cached_property
    def train_shards(self) -> TokenShards:
        """The train split."""
        return self.shards("train")

    @cached_property
    def plan(self) -> Plan:
        """The order of the training data."""
        return Plan(self.seed, self.batch_size, self.train_shards.blocks(), self.alpha)

    @cached_property
    def pair_slots(self) -> PairSlots | None:
        """The order of the parallel text, where it is trained on."""
        if not {TLM, MT} & set(self.turns.objectives):
            return None
        shards = self.pair_shards("train", self.sentence_max_length, self.max_pairs)
        return PairSlots.of(shards, self.seed, self.alpha)

    @cached_property
    def sentence_slots(self) -> SentenceSlots | None:
        """The order of the sentences of each language, where they are trained on."""
        if not {AE, BT} & set(self.turns.objectives):
            return None
        limits = {"max_tokens": self.sentence_tokens, "max_length": self.sentence_max_length}
        batches = SentenceBatches(self.train_shards, self.seed, **limits)
        return SentenceSlots.of(batches, self.seed, self.alpha, self.noise)

    def setup(self, stage: str) -> None:
        """Check one train shard byte by byte and start to count consumed slots."""
        if stage != TrainerFn.FITTING:
            return
        trainer = self._trainer
        slots_per_step = trainer.world_size * trainer.accumulate_grad_batches
        if slots_per_step != self.slots_per_step:
            raise UserError(
                f"{trainer.world_size} ranks x trainer.accumulate_grad_batches="
                f"{trainer.accumulate_grad_batches} make {slots_per_step} micro-batches a step, "
                f"but slots_per_step is {self.slots_per_step}; change one of them"
            )
        if names := self.train_shards.names:
            # Another one at each start; by the minute, on which all ranks agree.
            self.train_shards.check(names[int(time.time() / 60) % len(names)])
        self.plan.slot(0)
        if BT in self.turns.objectives and self.sentence_slots is not None:
            self.sentence_slots.require_two_languages()
        others = [c for c in _callbacks(trainer) if not isinstance(c, SlotCounter)]
        _callbacks(trainer)[:] = [SlotCounter(self), *others]

    def shards(self, split: str) -> TokenShards:
        """The text of a split, of the languages that are trained on."""
        length, manifest = self.stream_length, self.manifest
        return TokenShards(self.folder, split, length, manifest, self.mirror, self.shares)

    def pair_shards(self, split: str, max_length: int, max_pairs: int | None = None) -> PairShards:
        """The parallel text of a split, but for sentences of more than `max_length` tokens."""
        return PairShards(
            self.folder,
            split,
            self.manifest,
            self.mirror,
            max_tokens=self.sentence_tokens,
            max_length=max_length,
            max_pairs=max_pairs,
        )

    def train_dataloader(self) -> TrainLoader:
        """One pass over all micro-batches of the run, so that no epoch ends in the middle."""
        trainer, steps = self._trainer, self._trainer.max_steps
        batches = SlotBatches(
            self.plan,
            self.train_shards,
            self.turns,
            self.masking,
            pairs=self.pair_slots,
            sentences=self.sentence_slots,
            overfit_slots=self.overfit_slots,
        )
        return TrainLoader(
            batches,
            lambda: self.slot,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            length=ENDLESS if steps < 0 else max(steps * trainer.accumulate_grad_batches, 1),
            workers=self.workers,
            pin_memory=self._pin_memory,
        )

    def val_dataloader(self) -> OrderedLoader:
        """Every real token of the valid split once, up to `max_valid_tokens` during training."""
        fitting = self._trainer.state.fn == TrainerFn.FITTING
        return self._evaluation_loader("valid", self.max_valid_tokens if fitting else None)

    def test_dataloader(self) -> OrderedLoader:
        """Every real token of the test split once."""
        return self._evaluation_loader("test", None)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Widen the ids on the device: uint16 is a quarter of the bytes, but has no embedding."""
        ids = batch.keys() & {"tokens", "source"}
        return batch | {name: batch[name].to(torch.int64) for name in ids}

    def state_dict(self) -> dict[str, Any]:
        """Return the number of consumed slots, and all that decides what is in them."""
        return {
            "slot": self.slot,
            "world_size": self._trainer.world_size,
            "counts": self.plan.counts(self.slot),
            **self._identity(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the checkpoint's slots; `UserError` when they would be other ones."""
        if self._trainer.state.fn != TrainerFn.FITTING:
            return  # a checkpoint may be evaluated on any data
        slot = state_dict["slot"]
        current = {**self._identity(), "counts": self.plan.counts(slot)}
        self.begins_anew = not is_continued(current, state_dict, reorder=self.reorder)
        if self.begins_anew:
            return
        before, now = state_dict["world_size"], self._trainer.world_size
        if before != now and slot % self.slots_per_step:
            raise UserError(
                f"cannot resume on {now} ranks: the checkpoint was written on {before} ranks at "
                f"slot {slot}, inside an optimiser step; resume on {before} ranks"
            )
        self.slot = slot

    @property
    def _trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise RuntimeError("the data module is not attached to a Trainer yet")
        return self.trainer

    @property
    def _pin_memory(self) -> bool:
        return self._trainer.strategy.root_device.type == "cuda"

    def _identity(self) -> dict[str, Any]:
        """Everything that a slot's content depends on."""
        return {
            "batch_size": self.batch_size,
            "slots_per_step": self.slots_per_step,
            "stream_length": self.stream_length,
            "seed": self.seed,
            "alpha": self.alpha,
            "shares": self.shares.partial or None,  # None: as before there were any
            "overfit_slots": self.overfit_slots,
            "objectives": self.turns.curves,
            "masking": self.masking.shares(),
            "noise": self.noise.shares() if AE in self.turns.objectives else None,
            "sentence_tokens": self.sentence_tokens,
            "sentence_max_length": self.sentence_max_length,
            "max_pairs": self.max_pairs,
            "plan_version": PLAN_VERSION,
            "manifest_sha256": manifest_sha256(self.folder),
        }

    def _evaluation_loader(self, split: str, max_tokens: int | None) -> OrderedLoader:
        """Batch i goes to rank i % W; all ranks get as many, the last ones perhaps empty."""
        pairs = self.pair_shards(split, self.max_positions - 2)
        read = (self.turns.objectives, self.shards(split), pairs, self.batch_size)
        batches = ScoredSplit.of(*read, max_tokens)
        world_size = self._trainer.world_size
        length = -(-len(batches) // world_size)
        numbers = range(self._trainer.global_rank, length * world_size, world_size)
        return OrderedLoader(batches, lambda: numbers, length=length, pin_memory=self._pin_memory)


def _callbacks(trainer: pl.Trainer) -> list[Callback]:
    callbacks: list[Callback] = vars(trainer)["callbacks"]  # Lightning does not declare it
    return callbacks
