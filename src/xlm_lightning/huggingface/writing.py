"""A trained model as a folder that transformers' XLM classes read, with proof beside it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from xlm_lightning.huggingface.config import model_config, tokenizer_config
from xlm_lightning.huggingface.vocabulary import merges_text, to_vocab_json
from xlm_lightning.tensor_names import to_transformers
from xlm_lightning.text.bpe import CONTINUED
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.text.vocabulary import FIRST_WORD_ID, Vocabulary
from xlm_lightning.trained import TrainedModel

PARITY_SHAPE = (4, 16)  # rows, tokens
PARITY_LINE_WORDS = 16


def write_folder(trained: TrainedModel, folder: Path) -> None:
    """Write all files into the empty `folder`, except the model card."""
    text_model = trained.load_text_model()
    vocabulary = text_model.vocabulary
    save_file(
        to_transformers(trained.model), folder / "model.safetensors", metadata={"format": "pt"}
    )
    _write_json(folder / "config.json", model_config(trained, text_model))
    lowercase = text_model.lowercase_and_remove_accent
    _write_json(folder / "tokenizer_config.json", tokenizer_config(trained, lowercase))
    _write_json(folder / "vocab.json", to_vocab_json(vocabulary))
    folder.joinpath("merges.txt").write_bytes(merges_text(text_model.codes).encode())
    vocabulary.save(folder / "vocab")
    arrays = _parity(trained, text_model)
    np.savez(folder / "parity.npz", allow_pickle=False, **arrays)


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


@torch.inference_mode()
def _parity(trained: TrainedModel, text_model: TextModel) -> dict[str, np.ndarray[Any, Any]]:
    """What another program must reproduce: scores of random ids, ids of text in each language.

    `input_ids`, `langs` int64 (rows, time); `logits` float32 (rows, time, vocabulary); for each
    language `text_LANG` and `ids_LANG`, lines and their ids, written as transformers' rules give
    them whatever rules the training text went through.
    """
    generator = torch.Generator().manual_seed(0)
    rows, time = PARITY_SHAPE[0], min(PARITY_SHAPE[1], trained.model.max_positions)
    size = len(text_model.vocabulary)
    input_ids = torch.randint(FIRST_WORD_ID, size, (rows, time), generator=generator)
    languages = torch.arange(rows)[:, None].expand(rows, time) % len(trained.languages)
    hidden = trained.model(input_ids, languages, causal=trained.causal)
    arrays = {
        "input_ids": input_ids.numpy(),
        "langs": languages.contiguous().numpy(),
        "logits": trained.model.logits(hidden).numpy(),
    }
    pipelines = replace(text_model, mode="sacremoses").pipelines()
    lines = _lines(text_model.vocabulary)
    for language, pipeline in pipelines.items():
        ids = [" ".join(map(str, pipeline.encode(line))) for line in lines]
        arrays[f"text_{language}"] = np.array(lines)
        arrays[f"ids_{language}"] = np.array(ids)
    return arrays


def _lines(vocabulary: Vocabulary) -> list[str]:
    """Lines in which nearly every piece of the vocabulary occurs: each last piece of a word alone
    and behind one that goes on."""
    mixer = random.Random(0)
    last = [word for word in vocabulary.words if not word.endswith(CONTINUED)]
    first = [word.removesuffix(CONTINUED) for word in vocabulary.words if word.endswith(CONTINUED)]
    words = last + [start + mixer.choice(last) for start in first if last]
    mixer.shuffle(words)
    return [
        " ".join(words[start : start + PARITY_LINE_WORDS])
        for start in range(0, len(words), PARITY_LINE_WORDS)
    ]
