"""Checkpoints: written whole or not at all, read back without running foreign code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from xlm_lightning.atomic import atomic_write
from xlm_lightning.errors import UserError
from xlm_lightning.model import XLM
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.trained import TrainedModel

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


def load_checkpoint(path: Path, objective: str | None = None) -> TrainedModel:
    """Load a run folder's best (else last) checkpoint, or the `.ckpt` file `path`.

    `objective`: which one of several the model is to be used for (None: the first). Raises
    `UserError` that names the file when it is missing, damaged or of another program.
    """
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    described = checkpoint[MODEL_KEY]
    objectives = described.get("objectives", ["clm"])
    if objective not in (None, *objectives):
        raise UserError(f"objective={objective}: {file} was trained for {', '.join(objectives)}")
    model = XLM(**described["model"])
    try:
        model.load_state_dict(model_weights(checkpoint))
    except RuntimeError as error:
        raise UserError(f"{file} does not hold the model that it describes: {error}") from error
    run = RunFolder(file.parent.parent)
    return TrainedModel(
        model.eval(),
        languages=described["languages"],
        objective=objective or objectives[0],
        stream_length=described["stream_length"],
        path=file,
        load_text_model=run.text_model,
        data_dir=run.data_dir(),
        facts={"steps": checkpoint["global_step"], "objectives": ", ".join(objectives)},
    )


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint file that `path` means: itself, or a run folder's best or last one."""
    if path.is_file():
        return path
    last = path / CHECKPOINTS / LAST
    best = sorted((path / CHECKPOINTS).glob("best-*.ckpt"))
    if len(best) > 1 and last.is_file():
        best = [file for file in best if file.name == _best_name(last)] or best
    if best:
        return best[-1]
    if last.is_file():
        return last
    raise UserError(f"checkpoint={path}: neither a file nor a run folder with {CHECKPOINTS}/{LAST}")


def _best_name(last: Path) -> str:
    """Name of the best of several checkpoints, as the run's own keeper remembers it."""
    for name, state in read_checkpoint(last)["callbacks"].items():
        if name.startswith("ModelCheckpoint"):
            return Path(state["best_model_path"]).name
    return ""


def resume_point(resume: str, run: RunFolder) -> Path | None:
    """Return the checkpoint that a run goes on from, None for a new run.

    `resume`: `auto`, `never`, or a run folder or checkpoint. Raises `UserError` for a file that is
    damaged, or holds weights only, before anything is written.
    """
    last = run.checkpoints / LAST
    if resume == "never" and last.is_file():
        raise UserError(
            f"run.dir={run.path} already holds a run; continue it with resume=auto, "
            "or choose another run.dir"
        )
    if resume == "never" or (resume == "auto" and not last.is_file()):
        return None
    path = last if resume == "auto" else Path(resume)
    path = path if path.is_file() else path / CHECKPOINTS / LAST
    if "optimizer_states" not in read_checkpoint(path):
        raise UserError(
            f"resume={resume}: {path} holds weights only, so that training cannot go on exactly; "
            f"take {LAST}, or begin a new run with model.init_from={path}"
        )
    return path


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read one of our checkpoint files, plain containers and tensors only."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
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
