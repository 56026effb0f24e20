"""Where a trained model may come from: our runs, Hugging Face folders and hub, the original XLM."""

from __future__ import annotations

from pathlib import Path

from xlm_lightning.checkpoint import load_checkpoint
from xlm_lightning.huggingface.hub import download
from xlm_lightning.huggingface.reading import read_folder
from xlm_lightning.original import read_original
from xlm_lightning.trained import TrainedModel


def load_model(source: str, objective: str | None = None) -> TrainedModel:
    """Load `source`: a run folder or its `.ckpt`, a Hugging Face folder, an original `.pth`, or a
    name on the hub. Nothing that comes with a model is run: tensors and plain containers only.

    `objective`: what the model was trained for, where the source does not tell, or tells it wrong.
    Raises `UserError` that names the file that is missing, damaged or does not fit.
    """
    path = Path(source)
    if not path.exists():
        return read_folder(download(source), objective, name=source)
    if (path / "config.json").is_file():
        return read_folder(path, objective)
    if path.suffix == ".pth":
        return read_original(path, objective)
    return load_checkpoint(path, objective)
