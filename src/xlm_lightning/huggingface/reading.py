"""A transformers XLM folder, of any age and from anywhere, as a trained model."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from xlm_lightning.errors import UserError
from xlm_lightning.huggingface.config import Described, read_config, read_json, read_languages
from xlm_lightning.huggingface.vocabulary import read_merges, read_vocab_json
from xlm_lightning.model import XLM
from xlm_lightning.tensor_names import load_original, read_pickle
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.text.vocabulary import Vocabulary
from xlm_lightning.trained import TrainedModel

_PREFIX = "transformer."


def read_folder(
    folder: Path, objective: str | None = None, *, name: str | None = None
) -> TrainedModel:
    """Load weights and configuration of `folder`; `name`: what the user calls it.

    Raises `UserError` that names the file which is missing, damaged or does not fit.
    """
    described = read_config(folder / "config.json")
    languages = _languages(folder, described)
    chosen = objective or _objective(described, name or folder.resolve().name)
    with torch.device("meta"):  # shapes only: the tensors of the file take the weights' place
        model = XLM(**described.arguments)
    weights = _weights_file(folder)
    tensors = {key.removeprefix(_PREFIX): tensor for key, tensor in _read_tensors(weights).items()}
    load_original(model, tensors, str(weights))
    return TrainedModel(
        model.eval(),
        languages=languages,
        objective=chosen,
        stream_length=described.stream_length,
        path=weights,
        load_text_model=lambda: _read_text_model(folder, languages, model.tokens.num_embeddings),
        data_dir=None,
        facts=described.facts,
    )


def _languages(folder: Path, described: Described) -> list[str]:
    """The ids of languages stand in the tokenizer's file, the model's, or both."""
    path = folder / "tokenizer_config.json"
    named = read_languages(read_json(path), path) if path.is_file() else None
    languages = described.languages or named
    count = described.arguments["num_languages"]
    if languages is None:
        raise UserError(f"{path}: no lang2id, here or in config.json: which language has which id?")
    if named is not None and named != languages:
        raise UserError(f"{path}: lang2id is {named}, but {languages} in config.json")
    if len(languages) != count:
        raise UserError(
            f"{folder / 'config.json'}: n_langs={count}, but lang2id names {len(languages)} "
            f"({', '.join(languages)})"
        )
    return languages


def _objective(described: Described, name: str) -> str:
    """What the model was trained for. The published clm models say `causal: false` or nothing."""
    if described.causal:
        return described.objective or "clm"
    if described.objective in ("mlm", "tlm"):
        return described.objective
    if described.objective is None and "mlm" in name.lower():
        return "mlm"
    says = "does not say causal" if described.causal is None else "says causal: false"
    if described.objective == "clm" or "clm" in name.lower() or described.causal is None:
        print(
            f"{name} {says}; it is loaded as a causal model (objective=mlm if it is not one)",
            file=sys.stderr,
        )
        return "clm"
    print(
        f"{name} {says}; it is loaded as a masked model (objective=clm if it is causal)",
        file=sys.stderr,
    )
    return "mlm"


def _weights_file(folder: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} holds no weights: neither model.safetensors nor pytorch_model.bin")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors and nothing else: no pickle is run that could hold a program."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} cannot be read ({reason})") from error
    tensors = read_pickle(path)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise UserError(f"{path}: must hold named tensors and nothing else")
    return tensors


def _read_text_model(folder: Path, languages: list[str], vocab_size: int) -> TextModel:
    """Codes, vocabulary and rules as transformers' XLMTokenizer has them."""
    vocabulary = _read_vocabulary(folder)
    if len(vocabulary) != vocab_size:
        raise UserError(
            f"{folder / 'vocab.json'} has {len(vocabulary)} tokens, but config.json says "
            f"vocab_size={vocab_size}"
        )
    options = folder / "tokenizer_config.json"
    lowercase = (
        read_json(options).get("do_lowercase_and_remove_accent", True)
        if options.is_file()
        else True  # what transformers assumes
    )
    return TextModel(
        languages=languages,
        mode="sacremoses",
        lowercase_and_remove_accent=lowercase,
        codes=read_merges(folder / "merges.txt"),
        vocabulary=vocabulary,
    )


def _read_vocabulary(folder: Path) -> Vocabulary:
    """The ids of vocab.json; with the counts of a `vocab` beside it that lists the same words."""
    vocabulary = read_vocab_json(folder / "vocab.json")
    if (folder / "vocab").is_file():
        counted = Vocabulary.load(folder / "vocab")
        if counted.words == vocabulary.words:
            return counted
    return vocabulary
