"""Checkpoints: written whole or not at all, read back without running foreign code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from xlm_lightning.atomic import atomic_write
from xlm_lightning.errors import UserError
from xlm_lightning.model import XLM

MODEL_KEY = "xlm_lightning"  # in a checkpoint: what rebuilds the model around its weights
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's writer beside its target instead of through the system's temporary folder."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        with atomic_write(Path(path)) as file:
            torch.save(checkpoint, file)


@dataclass(frozen=True)
class TrainedModel:
    """A model in evaluation mode, with what is needed to feed it."""

    model: XLM
    languages: list[str]
    stream_length: int  # tokens of a training sequence
    step: int
    path: Path
    run_folder: Path


def load_model(path: Path) -> TrainedModel:
    """Load a run folder's best (else last) checkpoint, or the `.ckpt` file `path`.

    Raises `UserError` that names the file when it is missing, damaged or of another program.
    """
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    described = checkpoint[MODEL_KEY]
    model = XLM(**described["model"])
    try:
        model.load_state_dict(model_weights(checkpoint))
    except RuntimeError as error:
        raise UserError(f"{file} does not hold the model that it describes: {error}") from error
    return TrainedModel(
        model.eval(),
        languages=described["languages"],
        stream_length=described["stream_length"],
        step=checkpoint["global_step"],
        path=file,
        run_folder=file.parent.parent,
    )


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint file that `path` means: itself, or a run folder's best or last one."""
    if path.is_file():
        return path
    best = sorted((path / CHECKPOINTS).glob("best-*.ckpt"))
    last = path / CHECKPOINTS / LAST
    if best:
        return best[-1]
    if last.is_file():
        return last
    raise UserError(f"checkpoint={path}: neither a file nor a run folder with {CHECKPOINTS}/{LAST}")


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read one of our checkpoint files, plain containers and tensors only."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise UserError(f"checkpoint {file} cannot be read ({reason}); take another one") from error
    if not isinstance(checkpoint, dict) or MODEL_KEY not in checkpoint:
        raise UserError(f"checkpoint {file} was not written by xlm-train")
    return checkpoint


def model_weights(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the model's tensors, named as in `XLM`."""
    return {
        name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()
    }
