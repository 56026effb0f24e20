"""Checkpoints of the original XLM program: `.pth` files with model, parameters and dictionary."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from xlm_lightning.errors import UserError
from xlm_lightning.model import XLM
from xlm_lightning.tensor_names import load_original, read_pickle
from xlm_lightning.text.bpe import read_codes
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.text.vocabulary import FIRST_WORD_ID, SPECIALS, Vocabulary
from xlm_lightning.trained import TrainedModel

_NEEDED = ("emb_dim", "n_layers", "n_heads", "n_words")
# Scores of a run, and its weights of words, are numpy's; these types hold numbers and run nothing.
_SCALAR = np.float64(0).__reduce__()[0]
_ARRAY = np.zeros(1).__reduce__()[0]
_NUMBERS: list[Any] = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before numpy 2
    _ARRAY,
    (_ARRAY, "numpy.core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
]


def read_original(path: Path, objective: str | None = None) -> TrainedModel:
    """Load a model of one network (encoder and decoder in one file are another thing).

    Its words come with the file; the BPE codes are looked for beside it (`codes`, `codes_xx`).
    Raises `UserError` that names the file and what is missing in it.
    """
    content = _read(path)
    params = content["params"]
    missing = [key for key in _NEEDED if key not in params]
    if missing:
        raise UserError(f"{path}: its params lack {missing[0]}")
    if params.get("asm"):
        raise UserError(f"{path}: trained with adaptive softmax (asm), which is not known here")
    languages = _languages(params, path)
    tensors = {name.removeprefix("module."): tensor for name, tensor in content["model"].items()}
    if "position_embeddings.weight" not in tensors:
        raise UserError(f"{path}: tensor position_embeddings.weight is missing")
    model = XLM(
        vocab_size=params["n_words"],
        num_languages=len(languages),
        layers=params["n_layers"],
        dim=params["emb_dim"],
        heads=params["n_heads"],
        dropout=params.get("dropout", 0.0),
        attention_dropout=params.get("attention_dropout", 0.0),
        max_positions=len(tensors["position_embeddings.weight"]),
        position_init=(
            "fixed_sinusoidal" if params.get("sinusoidal_embeddings", False) else "random"
        ),
        activation="gelu" if params.get("gelu_activation", False) else "relu",
        language_embeddings=params.get("use_lang_emb", True),
        tied_output=params.get("share_inout_emb", True),
    )
    load_original(model, tensors, str(path))
    return TrainedModel(
        model.eval(),
        languages=languages,
        objective=objective or _objective(params),
        stream_length=params.get("bptt", 256),
        path=path,
        load_text_model=lambda: _text_model(path, content, languages),
        data_dir=None,
        facts={"origin": "the original XLM program"},
    )


def _read(path: Path) -> dict[str, Any]:
    content = read_pickle(path, _NUMBERS)
    if isinstance(content, dict) and "encoder" in content:
        raise UserError(f"{path} holds an encoder and a decoder; only a single model can be read")
    for key in ("model", "params", "dico_id2word"):
        if not isinstance(content, dict) or not isinstance(content.get(key), dict):
            raise UserError(f"{path}: not a checkpoint of the original XLM (no {key})")
    if not all(isinstance(tensor, Tensor) for tensor in content["model"].values()):
        raise UserError(f"{path}: its model must hold named tensors and nothing else")
    return dict(content)


def _languages(params: Mapping[str, Any], path: Path) -> list[str]:
    """Languages in the order of their ids, which in the original is alphabetical."""
    ids = params.get("lang2id")
    if not isinstance(ids, dict) or sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"{path}: its params hold no lang2id with the ids 0, 1, 2, ...")
    return sorted(ids, key=ids.__getitem__)


def _objective(params: Mapping[str, Any]) -> str:
    """`clm_steps` and `mlm_steps` list what was trained, as text or already split."""
    return "mlm" if params.get("mlm_steps") else "clm"


def _text_model(path: Path, content: Mapping[str, Any], languages: list[str]) -> TextModel:
    vocabulary = _vocabulary(content, path)
    found = sorted(file for file in path.parent.glob("codes*") if file.is_file())
    if len(found) != 1:
        which = ", ".join(file.name for file in found) or "none"
        raise UserError(f"{path}: to read text its BPE codes must lie beside it as codes ({which})")
    return TextModel(
        languages=languages,
        mode="moses",
        lowercase_and_remove_accent=not any(map(_is_cased, vocabulary.words)),
        codes=read_codes(found[0]),
        vocabulary=vocabulary,
    )


def _is_cased(word: str) -> bool:
    """Nothing tells whether text was lowered and its accents removed, except what words it made."""
    return word != word.lower() or any(unicodedata.category(c) == "Mn" for c in _decomposed(word))


def _decomposed(word: str) -> str:
    return unicodedata.normalize("NFD", word)


def _vocabulary(content: Mapping[str, Any], path: Path) -> Vocabulary:
    words: Mapping[int, str] = content["dico_id2word"]
    counts: Mapping[str, int] = content.get("dico_counts", {})
    ordered = [words.get(index) for index in range(len(words))]
    for index, special in enumerate(SPECIALS):
        if index >= len(ordered) or ordered[index] != special:
            raise UserError(f"{path}: word {index} of its dictionary must be {special}")
    if len(words) != content["params"]["n_words"]:
        raise UserError(
            f"{path}: its dictionary has {len(words)} words, its params say "
            f"n_words={content['params']['n_words']}"
        )
    real = [word for word in ordered[FIRST_WORD_ID:] if word is not None]
    if len(real) + FIRST_WORD_ID != len(words):
        raise UserError(f"{path}: the ids of its dictionary have gaps")
    return Vocabulary(real, [int(counts.get(word, 0)) for word in real])
