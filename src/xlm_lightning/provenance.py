"""Where a run comes from: code, packages, machine and data; and a hash of where it has arrived."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from xlm_lightning.manifest import Manifest, Shard, manifest_sha256

PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "omegaconf", "numpy", "sacremoses")


def provenance(
    *,
    command: Sequence[str],
    seed: int,
    data_dir: str,
    data_folder: Path,
    manifest: Manifest,
    shares: Mapping[str, Mapping[str, float]],
    precision_asked: str,
    precision_used: str,
    world_size: int,
    start: Mapping[str, str],
) -> dict[str, Any]:
    """Return what a reader needs to repeat the run: command, code, packages, machine, data.

    `start`: what the weights began from, `none` or what a trained model was trained for.
    """
    return {
        "command": list(command),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "hardware": _hardware(),
        "world_size": world_size,
        "seed": seed,
        "data": {
            "dir": data_dir,
            "manifest_sha256": manifest_sha256(data_folder),
            **_described_data(manifest),
        },
        "start": dict(start),
        "precision": {"asked": precision_asked, "used": precision_used},
        **shares,
    }


def _described_data(manifest: Manifest) -> dict[str, Any]:
    """What the data consist of: a model card tells it, long after the prepared folder is gone."""

    def counts(shards: Sequence[Shard]) -> dict[str, int]:
        return {
            name: sum(getattr(shard, name) for shard in shards)
            for name in ("lines", "documents", "tokens", "raw_bytes")
        }

    return {
        "corpus": manifest.corpus,
        "text": manifest.text,
        "splits": {
            split: {language: counts(shards) for language, shards in languages.items()}
            for split, languages in manifest.splits.items()
        },
        "parallel": {
            split: {
                pair: {language: counts(shards) for language, shards in sides.items()}
                for pair, sides in pairs.items()
            }
            for split, pairs in manifest.parallel.items()
        },
    }


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """Hash of the fp32 bytes of all tensors in the order of their names."""
    digest = hashlib.sha256()
    for _, tensor in sorted(weights.items()):
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _git_revision() -> str | None:
    """Revision of the checkout that holds this package, `+` when changed; None without one.

    A package installed inside somebody's own repository is not tracked there.
    """
    folder = Path(__file__).parent
    try:
        _git(folder, "ls-files", "--error-unmatch", __file__)
        revision = _git(folder, "rev-parse", "HEAD")
        return revision + ("+" if _git(folder, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "executable": Path(sys.executable).name,
    }
