"""What a masked model shows of itself: hidden words of the valid text, filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from xlm_lightning.dashboards.dashboard import Sample
from xlm_lightning.model import XLM
from xlm_lightning.objectives import predictions
from xlm_lightning.streaming.masked_evaluation import MaskedBatch, MaskedEvaluationBatches
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.text.pipeline import TextPipeline


@dataclass(frozen=True)
class FilledGaps:
    """The first block of each language, as it is and as the model fills its gaps."""

    pipelines: Mapping[str, TextPipeline]  # in the order of the language ids
    shards: TokenShards  # of the valid split

    def __call__(self, model: XLM, step: int) -> list[Sample]:
        """Two a language."""
        blocks = MaskedEvaluationBatches(self.shards, 1, max_tokens=self.shards.stream_length)
        samples = []
        for batch in map(blocks.__getitem__, range(len(blocks))):
            language, pipeline = list(self.pipelines.items())[batch["language"]]
            samples += _filled(model, batch, language, pipeline)
        return samples


@torch.inference_mode()
def _filled(model: XLM, batch: MaskedBatch, language: str, pipeline: TextPipeline) -> list[Sample]:
    places, targets = batch["places"], batch["targets"]
    tokens = batch["tokens"].long()
    device = model.tokens.weight.device
    on_device = {"tokens": tokens.to(device), "places": places.to(device)}
    hidden, _ = predictions(model, {**batch, **on_device})
    guesses = model.logits(hidden).argmax(1).cpu()
    right = int((guesses == targets).sum())
    text, filled = (
        pipeline.decode(tokens.flatten().scatter(0, places, words).tolist())
        for words in (targets, guesses)
    )
    found = f"{right} of {len(places)} hidden tokens found"
    return [Sample(language, text), Sample(f"{language}, {found}", filled)]
