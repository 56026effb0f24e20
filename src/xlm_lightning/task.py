"""Language modelling as a LightningModule: what one step does, and nothing about the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from xlm_lightning.checkpoint import MODEL_KEY
from xlm_lightning.errors import RunFailed
from xlm_lightning.flops import step_flops
from xlm_lightning.model import XLM
from xlm_lightning.monitor import PERPLEXITY
from xlm_lightning.objectives import predicting, predictions
from xlm_lightning.optim import build_optimizer, learning_rate
from xlm_lightning.perplexity import empty_sums, score, summarise
from xlm_lightning.sharding import local, shard, whole
from xlm_lightning.streaming.turns import CLM, TLM
from xlm_lightning.translator import Translator

LOGGED = ("perplexity", "accuracy", "bits_per_byte", "bleu", "chrf")


class LanguageModeling(pl.LightningModule):
    """Learns what its batches ask, next tokens or hidden ones; perplexity is per language."""

    def __init__(
        self,
        model: XLM | Translator,
        *,
        objectives: Sequence[str],
        languages: Sequence[str],
        pairs: Sequence[str],
        bytes_per_token: Mapping[str, Mapping[str, float]],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        stream_length: int,
        context_size: int,
        total_steps: int,
        seed: int,
    ) -> None:
        """The first of `objectives` is watched: its perplexity decides what is best.

        `context_size`: a causal loss leaves the first predictions of a block out.
        `optimizer` and `schedule`: arguments of `build_optimizer` and `learning_rate`.

        `bytes_per_token`: split -> language -> raw bytes of text for one token, for bits per byte.
        """
        super().__init__()
        self.model = model
        self.objectives = list(objectives)
        self.languages = list(languages)
        self.pairs = list(pairs) if TLM in objectives else []
        self.scored = self._what_is_scored()
        self.bytes_per_token = bytes_per_token
        self.optimizer_arguments = dict(optimizer)
        self.schedule_arguments = dict(schedule)
        self.stream_length = stream_length
        self.context_size = context_size
        self.total_steps = total_steps
        self.seed = seed
        self.gradient_norm = torch.zeros(())  # of the last step, before clipping
        self.skipped = False  # the last step, for a loss or gradient that was not finite
        self.results: dict[str, dict[str, Any]] = {}  # of the last evaluation
        self._sums = self._empty_sums()

    @property
    def texts(self) -> list[str]:
        """Names of all that is trained on: languages, and pairs of them."""
        alone = [] if self.objectives == [TLM] else self.languages
        return [*alone, *self.pairs]

    def text_of(self, batch: Mapping[str, Any]) -> str:
        """Which of `texts` a batch is."""
        names, key = (self.pairs, "pair") if "pair" in batch else (self.languages, "language")
        number: int = batch[key]
        return names[number]

    def flops(self, batch: Mapping[str, Any]) -> float:
        """Operations that training on a batch asks for."""
        return step_flops(self.model.arguments, batch)

    @property
    def rests(self) -> bool:
        """Whether some steps leave a part of the weights without a gradient."""
        return False

    def described(self) -> dict[str, Any]:
        """What else a checkpoint tells of its model."""
        return {}

    def _what_is_scored(self) -> dict[str, list[str]]:
        """Objective -> what its figures are of, languages or pairs; the first one is watched."""
        return {name: self.pairs if name == TLM else self.languages for name in self.objectives}

    def configure_model(self) -> None:
        """Share out the weights where the strategy asks for it; called before every stage."""
        if self.device_mesh is not None:
            assert isinstance(self.model, XLM)
            shard(self, self.model, self.device_mesh["data_parallel"])

    def on_train_batch_start(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Make dropout a function of (seed, slot): a resumed run needs no random state saved.

        `torch.manual_seed` would format three stack traces for devices that are not in use, which
        takes half a millisecond of every step. A GPU's gradient of attention adds up as its threads
        finish, unless told not to: for the step only, since other work has no such kernels.
        """
        seed = mix(self.seed, batch["slot"])
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)
            torch.use_deterministic_algorithms(True)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.device.type != "cpu":
            torch.use_deterministic_algorithms(False)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        network = predicting(self.model, batch["objective"])
        loss = network.loss(*predictions(self.model, batch, self.context_size))
        # An infinite loss may have a finite gradient; now it has none, and all ranks learn of it.
        weight = torch.where(loss.detach().isfinite(), batch["weight"], torch.nan)
        return {"loss": loss * weight, "nats": loss.detach()}

    def on_validation_epoch_start(self) -> None:
        self._sums = self._empty_sums()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        row = batch["pair" if "pair" in batch else "language"]
        self._sums[batch["objective"]][row] += score(self.model, batch)

    def on_validation_epoch_end(self) -> None:
        self._finish_evaluation("valid")

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the model around its weights, in plain containers.

        Raises `RunFailed` rather than keep weights that are not finite.
        """
        if not self._finite_weights():
            raise RunFailed(
                f"at step {self.trainer.global_step} weights are not finite any more, and are not "
                "kept; go on from the checkpoint before with a lower optimizer.lr"
            )
        checkpoint[MODEL_KEY] = {
            "model": self.model.arguments,
            "objectives": self.objectives,
            "languages": self.languages,
            "stream_length": self.stream_length,
            **self.described(),
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.parameters(), **self.optimizer_arguments)
        # Lightning refuses to clip before an optimizer that unscales fp16 gradients by itself; the
        # fused kernel works as well on gradients that the scaler has unscaled.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        lr = self.optimizer_arguments["lr"]

        def factor(step: int) -> float:
            curve = self.schedule_arguments
            rate = learning_rate(step, lr=lr, total_steps=self.total_steps, **curve)
            return rate / float(lr)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the global norm (0 or None: off) and keep the norm for the loggers.

        A norm that is not finite, which is the same on all ranks, skips the step: without gradients
        an optimizer does nothing. The scaler of fp16 does that by itself, and learns from it.
        """
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.gradient_norm = whole(norm)
        self.skipped = not bool(self.gradient_norm.isfinite())
        if self.skipped:
            if getattr(self.trainer.precision_plugin, "scaler", None) is None:
                self.zero_grad(set_to_none=True)
            return
        limit = gradient_clip_val or torch.inf
        # A CPU knows the norm now: below the limit a pass over all gradients is saved. A GPU would
        # have to be waited for.
        if self.device.type != "cpu" or self.gradient_norm > limit:
            torch.nn.utils.clip_grads_with_norm_(self.parameters(), limit, norm)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """A skipped step does not move the learning rate."""
        if not self.skipped:
            scheduler.step()

    def _finite_weights(self) -> bool:
        """Whether all ranks have finite weights only: a sum is not, with one that is not."""
        sums = [local(p.detach()).sum(dtype=torch.float32) for p in self.parameters()]
        broken = (~torch.stack(sums).isfinite()).any().float()
        if self.device_mesh is not None:
            broken = self.trainer.strategy.reduce(broken, reduce_op="sum")
        return not bool(broken)

    def _empty_sums(self) -> dict[str, Tensor]:
        """Objective -> (languages or pairs, 3)."""
        return {name: empty_sums(len(rows), self.device) for name, rows in self.scored.items()}

    def _finish_evaluation(self, split: str) -> None:
        """Add the sums of all ranks, so that a rank with fewer tokens weighs less, then divide.

        The figures of the first objective stand under the languages, those of the others under
        the objective's name.
        """
        first, *others = self.scored
        figures = {name: self.figures(name, split) for name in self.scored}
        self.results = figures[first] | {name: figures[name] for name in others}
        # Lightning's own logging would name the step before, in fp32; callbacks watch the mean.
        self.log(PERPLEXITY.name, self.results["mean"]["perplexity"], logger=False)
        if self.trainer.state.fn == TrainerFn.FITTING:
            logged = {f"{split}/{name}": value for name, value in _flat(self.results)}
            for logger in self.trainer.loggers:
                logger.log_metrics(logged, step=self.trainer.global_step)

    def figures(self, objective: str, split: str) -> dict[str, dict[str, Any]]:
        """Divide the sums of all ranks; called on all of them."""
        sums = self.trainer.strategy.reduce(self._sums[objective], reduce_op="sum")
        assert isinstance(sums, Tensor)
        bytes_per_token = self.bytes_per_token[split] if objective == CLM else None
        return summarise(sums, self.scored[objective], bytes_per_token)


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """What is logged of nested figures, under names such as de/perplexity and mlm/de/accuracy."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        elif name in LOGGED:
            yield prefix + name, value


def mix(seed: int, number: int) -> int:
    """A 64-bit seed from two numbers, well spread for neighbours (the splitmix64 finaliser)."""
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)
