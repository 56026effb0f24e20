"""`xlm-export`: a trained model as a Hugging Face folder, and on request on the hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from xlm_lightning import schema
from xlm_lightning.atomic import TEMPORARY_PREFIX
from xlm_lightning.errors import UserError
from xlm_lightning.huggingface.hub import push
from xlm_lightning.huggingface.writing import write_folder
from xlm_lightning.pretrained import load_model


def export(config: schema.Export) -> dict[str, Any]:
    """Write `out`, which appears whole or not at all."""
    out = Path(config.out)
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"out={out} is there already; remove it or choose another folder")
    trained = load_model(config.checkpoint, config.objective)
    partial = out.parent / f"{TEMPORARY_PREFIX}{out.name}"
    shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
    try:
        partial.mkdir(parents=True)
        files = write_folder(trained, partial)
        partial.replace(out)
    except OSError as error:
        raise UserError(f"out={out} cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    result: dict[str, Any] = {"out": str(out), "files": files}
    if config.push_to_hub is not None:
        result["pushed"] = push(out, config.push_to_hub)
    return result
