"""Where a trained model may come from: our runs, Hugging Face folders and hub, the original XLM."""

from __future__ import annotations

from pathlib import Path

from xlm_lightning.checkpoint import find_checkpoint, language_model, read_whole, translates
from xlm_lightning.errors import UserError
from xlm_lightning.huggingface.hub import download
from xlm_lightning.huggingface.reading import read_folder
from xlm_lightning.original import read_original
from xlm_lightning.trained import TrainedModel
from xlm_lightning.trained_translator import TrainedTranslator, translator


def load_model(source: str, objective: str | None = None) -> TrainedModel:
    """Load a language model; `UserError` for a translation model, otherwise as `load_any`."""
    trained = load_any(source, objective)
    if isinstance(trained, TrainedTranslator):
        raise UserError(
            f"checkpoint {trained.path} is of a translation model: it writes by xlm-translate only "
            "(checkpoint=, source=, target=)"
        )
    return trained


def load_any(source: str, objective: str | None = None) -> TrainedModel | TrainedTranslator:
    """Load `source`: a run folder or its `.ckpt`, a Hugging Face folder, an original `.pth`, or a
    name on the hub. Nothing that comes with a model is run: tensors and plain containers only.

    Of a run folder it is the best (else last) checkpoint. `objective`: what a language model was
    trained for, where the source does not tell, tells it wrong, or has several (None: the first).
    Raises `UserError` that names the file that is missing, damaged or does not fit.
    """
    path = Path(source)
    if not path.exists():
        return read_folder(download(source), objective, name=source)
    if (path / "config.json").is_file():
        return read_folder(path, objective)
    if path.suffix == ".pth":
        return read_original(path, objective)
    file = find_checkpoint(path)
    checkpoint = read_whole(file)
    if translates(checkpoint):
        return translator(checkpoint, file)
    return language_model(checkpoint, file, objective)
