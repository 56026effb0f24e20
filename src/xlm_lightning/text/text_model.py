"""A text model: all that turns lines into the ids of one model, and ids back into text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xlm_lightning.errors import UserError
from xlm_lightning.text.bpe import BytePairEncoder, Code, read_codes
from xlm_lightning.text.moses import Mode
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class TextModel:
    """Codes, vocabulary and rules; the place of a language in `languages` is its id."""

    languages: list[str]
    mode: Mode
    lowercase_and_remove_accent: bool
    codes: Sequence[Code]
    vocabulary: Vocabulary

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        vocab_size: int,
        languages: Sequence[str],
        mode: Mode,
        lowercase_and_remove_accent: bool,
    ) -> TextModel:
        """Read `codes` and `vocab` of a prepared folder, or of a run's copy.

        Raises `UserError` for a file that is damaged, and where there are not `vocab_size` ids.
        """
        codes = read_codes(folder / "codes")
        vocabulary = Vocabulary.load(folder / "vocab")
        if len(vocabulary) != vocab_size:
            raise UserError(
                f"{folder / 'vocab'} gives {len(vocabulary)} ids, not {vocab_size}: it belongs to "
                "another model; restore it"
            )
        return cls(list(languages), mode, lowercase_and_remove_accent, codes, vocabulary)

    def pipelines(self) -> dict[str, TextPipeline]:
        """Language -> pipeline, in the order of the language ids."""
        encoder = BytePairEncoder(self.codes)
        return {
            language: TextPipeline(
                language,
                mode=self.mode,
                lowercase_and_remove_accent=self.lowercase_and_remove_accent,
                encoder=encoder,
                vocabulary=self.vocabulary,
            )
            for language in self.languages
        }
