"""What a translator shows of itself: the first sentences of the valid text, translated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xlm_lightning.dashboards.dashboard import Sample
from xlm_lightning.generation import translate_batch
from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.translator import Translator

SHOWN = 3  # of each pair of languages, in both directions


@dataclass(frozen=True)
class OwnTranslations:
    """Each beside its source and the reference."""

    pipelines: Mapping[str, TextPipeline]  # in the order of the language ids
    shards: PairShards  # of the valid split

    def __call__(self, model: Translator, step: int) -> list[Sample]:
        """Sentences of one direction together."""
        names = list(self.pipelines)
        samples: list[Sample] = []
        for index, pair in enumerate(self.shards.pairs):
            languages = [names.index(name) for name in pair.split("-")]
            lines = range(min(SHOWN, self.shards.lines(index)))
            sentences = [self.shards.sentences(index, line) for line in lines]
            for source, target in ((0, 1), (1, 0)):
                samples += self._translated(
                    model,
                    [[sides[source][:-1], sides[target][:-1]] for sides in sentences],
                    languages[source],
                    languages[target],
                )
        return samples

    def _translated(
        self, model: Translator, pairs: list[list[list[int]]], source: int, target: int
    ) -> list[Sample]:
        names = list(self.pipelines)
        longest = model.max_positions - 2
        fitting = [(text[:longest], reference) for text, reference in pairs]
        found = translate_batch(
            model, [text for text, _ in fitting], source_language=source, language=target
        )
        return [
            Sample(
                f"{names[source]}-{names[target]}",
                f"{self._text(source, text)} -> {self._text(target, ids)} "
                f"(reference: {self._text(target, reference)})",
            )
            for (text, reference), ids in zip(fitting, found, strict=True)
        ]

    def _text(self, language: int, ids: list[int]) -> str:
        return list(self.pipelines.values())[language].decode(ids)
