"""A trained translation model, from a run of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlm_lightning.checkpoint import (
    MODEL_KEY,
    find_checkpoint,
    read_whole,
    rebuild,
    translates,
)
from xlm_lightning.errors import UserError
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.trained import language_id
from xlm_lightning.translator import Translator

_NO_TRANSLATOR = "is a language model, which does not translate; it writes by xlm-generate"


@dataclass(frozen=True)
class TrainedTranslator:
    """A model in evaluation mode, with what is needed to feed it."""

    model: Translator
    languages: list[str]  # the place of a language is its id
    directions: list[str]  # `de-en`: what it was trained for; empty where that is not known
    path: Path  # the file that holds the weights
    load_text_model: Callable[[], TextModel]  # `UserError` where codes or vocabulary are missing
    data_dir: str | None  # prepared folder that it was trained on, where that is known
    stream_length: int  # tokens of a training sequence
    sentence_tokens: int | None  # of a training batch of sentences, where that is known
    facts: dict[str, Any]  # what can be told of its origin

    def language_id(self, key: str, language: str) -> int:
        """Return the id of `language`; `UserError` with `key=` and the list otherwise."""
        return language_id(key, language, self.languages)


def load_translator(source: str) -> TrainedTranslator:
    """Load a run folder's best (else last) checkpoint, or the `.ckpt` file `source`.

    Raises `UserError` that names the file when it is missing, damaged, or of another kind of model.
    """
    path = Path(source)
    if (path / "config.json").is_file():
        raise UserError(f"checkpoint={source}: {_NO_TRANSLATOR}")
    file = find_checkpoint(path)
    checkpoint = read_whole(file)
    if not translates(checkpoint):
        raise UserError(f"checkpoint {file}: {_NO_TRANSLATOR}")
    return translator(checkpoint, file)


def translator(checkpoint: Mapping[str, Any], file: Path) -> TrainedTranslator:
    """Return the translation model that a checkpoint, read from `file`, holds."""
    described = checkpoint[MODEL_KEY]
    model = rebuild(Translator, checkpoint, file)
    run = RunFolder(file.parent.parent)
    return TrainedTranslator(
        model,
        languages=described["languages"],
        directions=described.get("directions", []),
        path=file,
        load_text_model=lambda: run.text_model(model.arguments["vocab_size"]),
        data_dir=run.data_dir(),
        stream_length=described["stream_length"],
        sentence_tokens=run.sentence_tokens(),
        facts={
            "steps": checkpoint["global_step"],
            "objectives": ", ".join(described.get("objectives", [])),
        },
    )
