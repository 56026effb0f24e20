"""A masked model's text at every validation: hidden words, filled in. Kept in `samples.md`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from xlm_lightning.callbacks.samples import append_section, drop_later_sections
from xlm_lightning.objectives import predictions
from xlm_lightning.streaming.masked_evaluation import MaskedBatch, MaskedEvaluationBatches
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.task import LanguageModeling
from xlm_lightning.text.pipeline import TextPipeline


class Fillings(Callback):
    """Appends a block of the valid text per language, as it is and as the model fills its gaps."""

    def __init__(
        self, path: Path, pipelines: Mapping[str, TextPipeline], shards: TokenShards
    ) -> None:
        """`pipelines` in the order of the language ids."""
        self.path = path
        self.pipelines = pipelines
        self.shards = shards

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            drop_later_sections(self.path, trainer.global_step)

    def on_validation_end(  # type: ignore[override]
        self, trainer: pl.Trainer, pl_module: LanguageModeling
    ) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit":
            lines = []
            # The first block of a language is a batch of its own when one block makes a batch.
            blocks = MaskedEvaluationBatches(self.shards, 1, self.shards.stream_length)
            for batch in map(blocks.__getitem__, range(len(blocks))):
                language, pipeline = list(self.pipelines.items())[batch["language"]]
                lines += _filled(pl_module, batch, language, pipeline)
            append_section(self.path, trainer.global_step, lines)


@torch.inference_mode()
def _filled(
    task: LanguageModeling, batch: MaskedBatch, language: str, pipeline: TextPipeline
) -> list[str]:
    places, targets = batch["places"], batch["targets"]
    tokens = batch["tokens"].long()
    on_device = {"tokens": tokens.to(task.device), "places": places.to(task.device)}
    hidden, _ = predictions(task.model, {**batch, **on_device})
    guesses = task.model.logits(hidden).argmax(1).cpu()
    right = int((guesses == targets).sum())
    texts = [
        pipeline.decode(tokens.flatten().scatter(0, places, words).tolist())
        for words in (targets, guesses)
    ]
    return [
        f"**{language}** {texts[0]}",
        "",
        f"**{language}, {right} of {len(places)} hidden tokens found** {texts[1]}",
        "",
    ]
