"""Translation as a LightningModule: what a step of a translator does beside language modelling.

The objectives (Lample et al. 2018; Conneau & Lample 2019, section 4.3): `ae` restores a sentence
from a noisy one, `bt` a sentence from the model's own translation of it, `mt` learns from parallel
text. Whatever is trained on, parallel text of valid and test is translated and scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributed as dist
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from xlm_lightning.generation import translate_pairs, translate_tensors
from xlm_lightning.monitor import BLEU
from xlm_lightning.streaming.turns import BT, MLM, MT, TLM, TRANSLATION
from xlm_lightning.task import LanguageModeling
from xlm_lightning.translation_scores import TranslationScores
from xlm_lightning.translator import Translator


class Translation(LanguageModeling):
    """Learns to translate between its languages, and beside it what else its batches ask."""

    model: Translator

    def __init__(
        self,
        model: Translator,
        *,
        directions: Sequence[str],
        scores: TranslationScores,
        **rest: Any,
    ) -> None:
        """`directions`: `de-en` is from de into en; `scores` judges what is translated.

        `rest`: see `LanguageModeling`.
        """
        self.directions = list(directions)
        super().__init__(model, **rest)
        self.scores = scores
        if not {MLM, TLM} & set(self.objectives):
            freeze_output(model)

    def text_of(self, batch: Mapping[str, Any]) -> str:
        """See `LanguageModeling`; parallel text counts by direction."""
        number: int = batch.get("pair", 0)
        if batch["objective"] == MT:
            return self.directions[number]
        return super().text_of(batch)

    @property
    def texts(self) -> list[str]:
        """See `LanguageModeling`."""
        alone = [] if set(self.objectives) <= {TLM, MT} else self.languages
        return [*alone, *self.pairs, *(self.directions if MT in self.objectives else [])]

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        if batch["objective"] == BT:
            batch = {**batch, **self._translated_back(batch)}
        return super().training_step(batch, batch_idx)

    def _translated_back(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The source from which the sentences of the batch are to be reached."""
        source, lengths = translate_tensors(
            self.model,
            batch["tokens"],
            batch["lengths"],
            source_language=batch["language"],
            language=batch["source_language"],
        )
        return {"source": source, "source_lengths": lengths}

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        if batch["objective"] != MT:
            super().validation_step(batch, batch_idx)
        elif len(batch["numbers"]):  # this rank may have none left
            super().validation_step(batch, batch_idx)
            made_and_wanted = translate_pairs(self.model, batch)
            direction = self.directions[batch["pair"]]
            self.scores.add(direction, batch["numbers"].tolist(), *made_and_wanted)

    def figures(self, objective: str, split: str) -> dict[str, dict[str, Any]]:
        """See `LanguageModeling`; with the scores of the translations."""
        found = super().figures(objective, split)
        if objective == MT:
            at_the_end = self.trainer.state.fn != TrainerFn.FITTING
            judged = self.scores.finish(
                gather_objects,
                split=split,
                keep=self.trainer.is_global_zero,
                draws_from=0 if at_the_end else None,  # of all runs the same, so that they compare
            )
            found = {name: {**row, **judged[name]} for name, row in found.items()}
            self.log(BLEU.name, found["mean"]["bleu"], logger=False)
        return found

    @property
    def rests(self) -> bool:
        """See `LanguageModeling`: where it models language in between, one network does."""
        return not set(self.objectives) <= set(TRANSLATION)

    def described(self) -> dict[str, Any]:
        """See `LanguageModeling`."""
        return {"translates": True, "directions": self.directions}

    def _what_is_scored(self) -> dict[str, list[str]]:
        others = [name for name in self.objectives if name not in TRANSLATION]
        rows = {name: self.pairs if name == TLM else self.languages for name in others}
        return {MT: self.directions} | rows


def freeze_output(model: Translator) -> None:
    """Leave out of training what nothing is predicted with: ddp waits for all gradients."""
    for parameter in (model.encoder.output_bias, model.encoder.output_weight):
        if parameter is not None:
            parameter.requires_grad_(False)


def gather_objects(mine: Any) -> list[Any]:
    """What each rank has, in the order of the ranks; to be called on all of them."""
    if not dist.is_initialized():
        return [mine]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    return gathered
