"""Text of the model's own in every language at every validation, kept in `samples.md`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from xlm_lightning.atomic import write_text
from xlm_lightning.generation import generate
from xlm_lightning.task import LanguageModeling, mix
from xlm_lightning.text.pipeline import TextPipeline

_HEADING = re.compile(r"^## step ([\d,]+)$", re.MULTILINE)


class Samples(Callback):
    """Appends one text per language; seeded by the step, so a resumed run writes the same."""

    def __init__(
        self,
        path: Path,
        pipelines: Mapping[str, TextPipeline],
        *,
        new_tokens: int,
        temperature: float,
        top_k: int,
        seed: int,
    ) -> None:
        """`pipelines` in the order of the language ids; `top_k` 0 draws from all words."""
        self.path = path
        self.pipelines = pipelines
        self.new_tokens = new_tokens
        self.temperature = temperature
        self.top_k = top_k
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            drop_later_sections(self.path, trainer.global_step)

    def on_validation_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: LanguageModeling
    ) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit" and self.new_tokens:
            step, lines = trainer.global_step, []
            for index, (language, pipeline) in enumerate(self.pipelines.items()):
                lines += [f"**{language}** {self._sample(pl_module, index, pipeline, step)}", ""]
            append_section(self.path, step, lines)

    def _sample(self, task: LanguageModeling, index: int, pipeline: TextPipeline, step: int) -> str:
        generator = torch.Generator(task.device).manual_seed(mix(self.seed, step))
        (ids,) = generate(
            task.model,
            [],
            language=index,
            max_new_tokens=self.new_tokens,
            temperature=self.temperature,
            top_k=self.top_k or None,
            generator=generator,
            stop_at_eos=False,
        )
        return pipeline.decode(ids)


def append_section(path: Path, step: int, lines: Sequence[str]) -> None:
    """Add what was written at `step` to `samples.md`."""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join([f"## step {step:,}", "", *lines]) + "\n")


def drop_later_sections(path: Path, step: int) -> None:
    """Drop what a killed run wrote after the checkpoint of `step`, from which another goes on."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    for heading in _HEADING.finditer(text):
        if int(heading[1].replace(",", "")) > step:
            write_text(path, text[: heading.start()])
            return
