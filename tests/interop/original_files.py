"""`.pth` files as the original XLM program writes them, in the way of its `save_checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from building import Exported
from safetensors.torch import load_file
from torch import Tensor

from xlm_lightning.text.bpe import write_codes
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.text.vocabulary import EOS, PAD, SPECIALS, UNK


def write_original(
    exported: Exported, folder: Path, *, prefix: str = "", zipped: bool = True
) -> Path:
    """Write the model as `model.pth` with its codes beside it.

    `prefix` is `module.` after distributed training; `zipped=False` is the format before torch 1.6.
    """
    text_model = exported.trained.load_text_model()
    folder.mkdir(parents=True)
    write_codes(folder / "codes", text_model.codes)
    content = original_content(exported)
    content["model"] = {prefix + name: tensor for name, tensor in content["model"].items()}
    path = folder / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if not zipped:  # numpy's module had another name then
        path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))
    return path


def original_content(exported: Exported) -> dict[str, Any]:
    """All that `save_checkpoint` puts into a file, optimiser left out as in the released ones."""
    text_model = exported.trained.load_text_model()
    words = dict(enumerate([*SPECIALS, *text_model.vocabulary.words]))
    counts = [0] * len(SPECIALS) + list(text_model.vocabulary.counts)
    return {
        "epoch": 3,
        "n_total_iter": 1200,
        "best_metrics": {"valid_mlm_ppl": np.float64(12.5)},
        "best_stopping_criterion": np.float64(12.5),
        "model": _tensors(exported),
        "dico_id2word": words,
        "dico_word2id": {word: index for index, word in words.items()},
        "dico_counts": dict(zip(words.values(), counts, strict=True)),
        "params": _params(exported, text_model, np.array(counts)),
    }


def _tensors(exported: Exported) -> dict[str, Tensor]:
    """The original stores the tied output layer as well."""
    stored = load_file(exported.folder / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    return {**tensors, "pred_layer.proj.weight": tensors["embeddings.weight"]}


def _params(
    exported: Exported, text_model: TextModel, counts: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """What the program has on its command line, and what its trainer adds."""
    arguments, languages = exported.trained.model.arguments, text_model.languages
    mask_scores = np.maximum(counts, 1) ** -0.5
    mask_scores[counts == 0] = 0
    return {
        "exp_name": "clm",
        "fp16": False,
        "emb_dim": arguments["dim"],
        "n_layers": arguments["layers"],
        "n_heads": arguments["heads"],
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "gelu_activation": True,
        "share_inout_emb": True,
        "sinusoidal_embeddings": False,
        "use_lang_emb": True,
        "asm": False,
        "asm_cutoffs": [8000, 20000],
        "bptt": 256,
        "lgs": "-".join(languages),
        "langs": languages,
        "id2lang": dict(enumerate(languages)),
        "lang2id": {language: index for index, language in enumerate(languages)},
        "n_langs": len(languages),
        "n_words": len(counts),
        "eos_index": EOS,
        "pad_index": PAD,
        "unk_index": UNK,
        "clm_steps": [(language, None) for language in languages],
        "mlm_steps": [],
        "mono_dataset": {"de": {"train": "de.train.pth"}},
        "pred_probs": torch.tensor([0.8, 0.1, 0.1]),
        "mask_scores": mask_scores,
        "multi_gpu": False,
    }
