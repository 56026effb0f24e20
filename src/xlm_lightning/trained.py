"""A trained model, whoever trained it: its weights, its languages and the way to its text model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlm_lightning.errors import UserError, did_you_mean
from xlm_lightning.model import XLM
from xlm_lightning.text.text_model import TextModel


@dataclass(frozen=True)
class TrainedModel:
    """A model in evaluation mode, with what is needed to feed it."""

    model: XLM
    languages: list[str]  # the place of a language is its id
    objective: str  # clm: a position sees itself and those before it; mlm: it sees all
    stream_length: int  # tokens of a training sequence
    path: Path  # the file that holds the weights
    load_text_model: Callable[[], TextModel]  # `UserError` where codes or vocabulary are missing
    data_dir: str | None  # prepared folder that it was trained on, where that is known
    facts: dict[str, Any]  # what an export tells of its origin

    @property
    def causal(self) -> bool:
        """Whether a position is kept from seeing later ones."""
        return self.objective == "clm"

    def require_causal(self) -> None:
        """Raise `UserError` for a masked model, whose predictions are not of the next token."""
        if not self.causal:
            raise UserError(
                f"{self.path} is a masked language model: it predicts no next token "
                "(objective=clm if it is a causal one)"
            )

    def language_id(self, language: str | None) -> int:
        """Return the id of `language` (None: the first); `UserError` with the list otherwise."""
        return 0 if language is None else language_id("language", language, self.languages)


def language_id(key: str, language: str, languages: Sequence[str]) -> int:
    """Return the place of `language` in `languages`; `UserError` with the list otherwise."""
    if language not in languages:
        raise UserError(
            f"{key}={language}: the model knows {', '.join(languages)}."
            + did_you_mean(language, languages)
        )
    return languages.index(language)
