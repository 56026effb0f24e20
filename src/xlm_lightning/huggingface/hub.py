"""Models on the Hugging Face hub: fetched into its cache, or sent there."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from xlm_lightning.errors import UserError

FILES = ["*.json", "*.txt", "vocab", "model.safetensors"]
OLD_WEIGHTS = "pytorch_model.bin"


def download(name: str) -> Path:
    """Return the local folder of model `name`; without a network, what the cache holds of it."""
    try:
        folder = Path(snapshot_download(name, allow_patterns=FILES))
        if not (folder / "model.safetensors").is_file():
            snapshot_download(name, allow_patterns=[OLD_WEIGHTS])
        return folder
    except Exception as error:
        raise UserError(
            f"{name}: neither a file or folder here, nor a model that the hub gives "
            f"({_reason(error)})"
        ) from error


def push(folder: Path, name: str) -> str:
    """Send all files of `folder` to the model repository `name`, made where missing."""
    try:
        HfApi().create_repo(name, exist_ok=True)
        return str(HfApi().upload_folder(repo_id=name, folder_path=folder))
    except Exception as error:
        raise UserError(
            f"push_to_hub={name}: {_reason(error)}; the folder is whole, send it with: "
            f"hf upload {name} {folder}"
        ) from error


def _reason(error: Exception) -> str:
    """The first line. Each major version of the client passes on another library's network errors
    (requests, httpx, httpx2), with no base class but `Exception`."""
    return str(error).partition("\n")[0] or type(error).__name__
