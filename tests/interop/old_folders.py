"""Folders as the first converter of transformers wrote them, like the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from building import Exported, copy_of
from safetensors.torch import load_file

OLD_NAMES = {"bos_token_id": "bos_index", "eos_token_id": "eos_index", "pad_token_id": "pad_index"}


def as_of_2019(exported: Exported, folder: Path, **keys: Any) -> Path:
    """The folder as its first converter wrote it: a pickle with copied head, old keys, merges."""
    copy_of(exported.folder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.position_ids"] = torch.arange(64)[None]
    tensors["pred_layer.proj.weight"] = tensors["transformer.embeddings.weight"].clone()
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    recent = ("causal", "dtype", "vocab_size", "tie_word_embeddings", "use_lang_emb", "lang_id")
    old = {OLD_NAMES.get(key, key): value for key, value in config.items() if key not in recent}
    old |= {"n_words": config["vocab_size"], "torchscript": False, "pruned_heads": {}, **keys}
    del old["xlm_lightning"], old["model_type"]
    (folder / "config.json").write_text(json.dumps(old), encoding="utf-8")
    for name in ("model.safetensors", "vocab", "README.md", "parity.npz"):
        (folder / name).unlink()
    return folder
