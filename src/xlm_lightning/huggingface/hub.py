"""Models on the Hugging Face hub: fetched into its cache, or sent there."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

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
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{name}: neither a file or folder here, nor a model that the hub gives ({reason})"
        ) from error


def push(folder: Path, name: str) -> str:
    """Send all files of `folder` to the model repository `name`, made where missing."""
    try:
        HfApi().create_repo(name, exist_ok=True)
        return str(HfApi().upload_folder(repo_id=name, folder_path=folder))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(f"push_to_hub={name}: {str(error).splitlines()[0]}") from error
