"""The model that a suite asks, and its control: the same shape with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from xlm_lightning.model import XLM
from xlm_lightning.suites.results import RANDOM, TRAINED
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.vocabulary import EOS, UNK, Vocabulary
from xlm_lightning.trained import TrainedModel


@dataclass(frozen=True)
class Subject:
    """All that a probe needs to know of a model."""

    models: Mapping[str, XLM]  # series -> model
    causal: bool
    languages: list[str]  # the place of a language is its id
    pipelines: Mapping[str, TextPipeline]
    vocabulary: Vocabulary
    seed: int

    @classmethod
    def of(cls, trained: TrainedModel, seed: int) -> Subject:
        """Draw the control by `seed`, as the original draws its weights."""
        text = trained.load_text_model()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            control = XLM(**trained.model.arguments).eval()
        control.to(trained.model.tokens.weight.device)
        return cls(
            models={TRAINED: trained.model, RANDOM: control},
            causal=trained.causal,
            languages=trained.languages,
            pipelines=text.pipelines(),
            vocabulary=text.vocabulary,
            seed=seed,
        )

    def sentence(self, text: str, language: str) -> list[int] | None:
        """Ids from `</s>` to `</s>`; None for what cannot be spelled, or does not fit."""
        ids = [EOS, *self.pipelines[language].encode(text), EOS]
        return ids if self.can_read(ids) else None

    def can_read(self, ids: list[int]) -> bool:
        """Whether a sentence fits into the model and has no unknown word."""
        return UNK not in ids and len(ids) <= self.models[TRAINED].max_positions

    def piece(self, word: str, language: str) -> int | None:
        """Id of a word that is one piece of the vocabulary, None for others."""
        ids = self.pipelines[language].encode(word)
        return ids[0] if len(ids) == 1 and ids[0] != UNK else None
