"""Training on text of one language at a time: restored from noise (ae), or from a translation that
the model makes itself (bt)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from xlm_lightning.errors import UserError
from xlm_lightning.streaming.batch import TrainBatch, source_tensors, target_tensors
from xlm_lightning.streaming.noise import Noise
from xlm_lightning.streaming.philox import SOURCES, uniforms
from xlm_lightning.streaming.plan import Plan, Slot
from xlm_lightning.streaming.rows import Rows
from xlm_lightning.streaming.sentences import SentenceBatches


@dataclass(frozen=True)
class SentenceSlots:
    """Batches of sentences, the order in which they come, and what is made of them."""

    plan: Plan  # of batches, one a slot
    batches: SentenceBatches
    noise: Noise

    @classmethod
    def of(cls, batches: SentenceBatches, seed: int, alpha: float, noise: Noise) -> SentenceSlots:
        """Languages are drawn as for blocks, q ~ p^alpha by their batches."""
        return cls(Plan(seed, 1, batches.blocks(), alpha), batches, noise)

    @cached_property
    def languages(self) -> list[int]:
        """Those that have text."""
        shares = self.plan.probabilities
        return [index for index, name in enumerate(self.plan.languages) if shares[name]]

    def require_two_languages(self) -> None:
        """Raise `UserError` where there is none to translate into."""
        if len(self.languages) < 2:
            name = self.plan.languages[self.languages[0]]
            raise UserError(
                f"objective.bt translates between languages, but there is text of {name} only; "
                "prepare text of two, or say objective.bt=0"
            )

    def denoised(self, place: Slot, slot: int) -> TrainBatch:
        """Sentences as they are, and with the noise of this slot."""
        rows, language = self._read(place), place.language
        noisy = self.noise.of(rows, self.plan.seed, slot)
        return target_tensors(rows, language) | source_tensors(noisy, language)

    def back_translated(self, place: Slot, slot: int) -> TrainBatch:
        """Sentences, and the language from which they are to be reached: any other one."""
        others = [language for language in self.languages if language != place.language]
        chance = uniforms((1,), self.plan.seed, SOURCES, slot)[0]
        source = others[int(chance * len(others))]
        rows = target_tensors(self._read(place), place.language)
        return rows | {"source_language": source}

    def _read(self, place: Slot) -> Rows:
        return self.batches.read(place.language, int(place.shard[0]), int(place.block[0]))
