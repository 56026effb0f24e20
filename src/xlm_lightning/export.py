"""`xlm-export`: a trained model as a Hugging Face folder, and on request on the hub."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xlm_lightning import schema
from xlm_lightning.atomic import TEMPORARY_PREFIX, write_text
from xlm_lightning.errors import UserError
from xlm_lightning.huggingface.hub import push
from xlm_lightning.huggingface.writing import write_folder
from xlm_lightning.model_card.card import MARKER, README, card_files
from xlm_lightning.pretrained import load_any
from xlm_lightning.trained import TrainedModel
from xlm_lightning.trained_translator import TrainedTranslator


def export(config: schema.Export) -> dict[str, Any]:
    """Write `out`, which appears whole or not at all; or a model card alone."""
    if config.card_only:
        return _export_card(config)
    out = Path(str(config.out))
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"out={out} is there already; remove it or choose another folder")
    trained = _load(config)
    if isinstance(trained, TrainedTranslator):
        raise UserError(
            f"checkpoint={config.checkpoint} is a translation model, and transformers has no XLM "
            "decoder that reads a source: no folder of its kind can hold it\n"
            "xlm-translate reads the run folder as it is; card_only=true writes a model card there"
        )
    partial = out.parent / f"{TEMPORARY_PREFIX}{out.name}"
    shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
    try:
        partial.mkdir(parents=True)
        write_folder(trained, partial)
        for name, text in card_files(trained, asdict(config.card)).items():
            write_text(partial / name, text)
        files = sorted(path.name for path in partial.iterdir())
        partial.replace(out)
    except OSError as error:
        raise UserError(f"out={out} cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    result: dict[str, Any] = {"out": str(out), "files": files}
    if config.push_to_hub is not None:
        result["pushed"] = push(out, config.push_to_hub)
    return result


def _export_card(config: schema.Export) -> dict[str, Any]:
    """Write `README.md`, over one that this program has written, but over no other."""
    trained = _load(config)
    folder = _own_folder(config.checkpoint, trained) if config.out is None else Path(config.out)
    readme = folder / README
    try:
        if readme.exists() and MARKER not in readme.read_text("utf-8", errors="replace"):
            raise UserError(
                f"{readme} was not written by xlm-export; move it, or say out=DIR with another "
                "folder"
            )
        write_text(readme, card_files(trained, asdict(config.card))[README])
    except OSError as error:
        raise UserError(f"{readme} cannot be written ({error.strerror})") from error
    return {"out": str(folder), "files": [README]}


def _load(config: schema.Export) -> TrainedModel | TrainedTranslator:
    """A language model, or a translation model, which has no objective to choose."""
    trained = load_any(config.checkpoint, config.objective)
    if isinstance(trained, TrainedTranslator) and config.objective is not None:
        raise UserError(
            f"objective={config.objective}: checkpoint={config.checkpoint} is a translation model; "
            "leave it out"
        )
    return trained


def _own_folder(checkpoint: str, trained: TrainedModel | TrainedTranslator) -> Path:
    """The run folder or exported folder that `checkpoint` names or lies in."""
    path = Path(checkpoint)
    if path.is_dir():
        return path
    if trained.path.suffix == ".ckpt":
        return trained.path.parent.parent
    raise UserError(f"checkpoint={checkpoint}: in which folder? Say out=DIR with card_only=true")
