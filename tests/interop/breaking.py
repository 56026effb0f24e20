"""The sixteen ways to break an exported folder that the specification of the format lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from building import edit_json, edit_tensors
from torch import Tensor

_QUERIES = "transformer.attentions.0.q_lin.weight"
_KEYS = "transformer.attentions.0.k_lin.weight"
_LANGUAGES = "transformer.lang_embeddings.weight"
_INNER = "transformer.ffns.1.lin1.weight"


def _one_weight(tensors: dict[str, Tensor]) -> None:
    tensors[_INNER][3, 5] += 0.05


def _swap_queries_and_keys(tensors: dict[str, Tensor]) -> None:
    tensors[_QUERIES], tensors[_KEYS] = tensors[_KEYS], tensors[_QUERIES]


def _swap_languages(tensors: dict[str, Tensor]) -> None:
    tensors[_LANGUAGES] = tensors[_LANGUAGES].flip(0)


def _drop_a_bias(tensors: dict[str, Tensor]) -> None:
    del tensors["transformer.ffns.0.lin2.bias"]


def _halve(dtype: torch.dtype) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors |= {name: tensor.to(dtype) for name, tensor in tensors.items()}

    return change


def _weights(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    return lambda folder: edit_tensors(folder, change)


def _config(**keys: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", lambda config: config.update(keys))


def _forget_causal(folder: Path) -> None:
    edit_json(folder / "config.json", lambda config: config.pop("causal"))


def _swap_words(folder: Path) -> None:
    """Two pieces that the card's sentence needs."""
    path = folder / "vocab.json"
    ids = json.loads(path.read_text(encoding="utf-8"))
    ids["was</w>"], ids["to</w>"] = ids["to</w>"], ids["was</w>"]
    path.write_text(json.dumps(ids), encoding="utf-8")


def _reverse_merges(folder: Path) -> None:
    path = folder / "merges.txt"
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    path.write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")


def _cut_final_newline(folder: Path) -> None:
    path = folder / "merges.txt"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))


def _drop_tokenizer_config(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def _swap_language_ids(folder: Path) -> None:
    swapped = {"lang2id": {"de": 1, "en": 0}, "id2lang": {"0": "en", "1": "de"}}
    edit_json(folder / "tokenizer_config.json", lambda config: config.update(swapped))


WAYS: dict[str, Callable[[Path], None]] = {
    "one weight moved": _weights(_one_weight),
    "causal false": _config(causal=False),
    "causal absent": _forget_causal,
    "queries and keys swapped": _weights(_swap_queries_and_keys),
    "language rows swapped": _weights(_swap_languages),
    "relu": _config(gelu_activation=False),
    "a tensor missing": _weights(_drop_a_bias),
    "fp16 weights": _weights(_halve(torch.float16)),
    "bf16 weights": _weights(_halve(torch.bfloat16)),
    "wrong heads": _config(n_heads=2),
    "epsilon of torch": _config(layer_norm_eps=1e-5),
    "two words swapped": _swap_words,
    "merges reversed": _reverse_merges,
    "no final newline": _cut_final_newline,
    "no tokenizer_config": _drop_tokenizer_config,
    "lang2id swapped": _swap_language_ids,
}
