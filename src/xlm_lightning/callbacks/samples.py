"""Text in every language at every validation, kept in `samples.md` and shown on dashboards."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from xlm_lightning.atomic import append_text, write_text
from xlm_lightning.dashboards.dashboard import Dashboard, Sample
from xlm_lightning.generation import generate
from xlm_lightning.model import XLM
from xlm_lightning.sharding import whole_model
from xlm_lightning.task import LanguageModeling, mix
from xlm_lightning.text.pipeline import TextPipeline

Write = Callable[[Any, int], list[Sample]]  # (model, XLM or Translator; step)
_HEADING = re.compile(r"^## step ([\d,]+)$", re.MULTILINE)


class Samples(Callback):
    """Appends what `write` makes of the model; a resumed run leaves the file of a straight one."""

    def __init__(self, path: Path, write: Write) -> None:
        self.path = path
        self.write = write

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what a killed run wrote after the checkpoint that this one goes on from."""
        if trainer.is_global_zero and self.path.is_file():
            text = self.path.read_text(encoding="utf-8")
            for heading in _HEADING.finditer(text):
                if int(heading[1].replace(",", "")) > trainer.global_step:
                    write_text(self.path, text[: heading.start()])
                    break

    def on_validation_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: LanguageModeling
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        model = whole_model(pl_module, pl_module.model)
        if trainer.is_global_zero:
            step = trainer.global_step
            samples = self.write(model, step)
            paragraphs = [f"## step {step:,}", *(f"**{s.title}** {s.text}" for s in samples)]
            append_text(self.path, "".join(f"{paragraph}\n\n" for paragraph in paragraphs))
            for logger in trainer.loggers:
                if isinstance(logger, Dashboard):
                    logger.log_samples(samples, step)


@dataclass(frozen=True)
class OwnText:
    """A causal model's own text, one a language; seeded by the step."""

    pipelines: Mapping[str, TextPipeline]  # in the order of the language ids
    new_tokens: int
    temperature: float
    top_k: int  # 0: draw from all words
    seed: int

    def __call__(self, model: XLM, step: int) -> list[Sample]:
        """One a language."""
        return [
            Sample(language, self._text(model, index, pipeline, step))
            for index, (language, pipeline) in enumerate(self.pipelines.items())
        ]

    def _text(self, model: XLM, index: int, pipeline: TextPipeline, step: int) -> str:
        generator = torch.Generator(model.tokens.weight.device).manual_seed(mix(self.seed, step))
        (ids,) = generate(
            model,
            [],
            language=index,
            max_new_tokens=self.new_tokens,
            temperature=self.temperature,
            top_k=self.top_k or None,
            generator=generator,
            stop_at_eos=False,
        )
        return pipeline.decode(ids)
