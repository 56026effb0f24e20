"""`config.json` and `tokenizer_config.json` of a transformers XLM folder: written, understood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlm_lightning import __version__
from xlm_lightning.errors import UserError
from xlm_lightning.layers import NORM_EPS
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.text.vocabulary import EOS, MASK, PAD, UNK
from xlm_lightning.trained import TrainedModel

PROVENANCE = "xlm_lightning"  # our own part of config.json, which transformers passes over
_NEEDED = ("vocab_size", "emb_dim", "n_layers", "n_heads", "n_langs", "max_position_embeddings")
# What transformers assumes where a key is missing, and what alone is understood here.
_FIXED: dict[str, Any] = {"asm": False, "layer_norm_eps": NORM_EPS, "is_encoder": True}
# Only we tell which text a model was trained on: that of others need not be what their tokenizer
# makes of it.
_ORIGIN_UNKNOWN = {"text_mode": "unknown", "text_casing": "unknown"}


def origin(facts: Mapping[str, Any], text_model: TextModel) -> dict[str, Any]:
    """`facts` of the training: of a folder that was read, those told there, else these here.

    Text mode and casing are those of the training text; a folder's own ids follow transformers'.
    """
    casing = "uncased" if text_model.lowercase_and_remove_accent else "cased"
    return {"text_mode": text_model.mode, "text_casing": casing, **facts}


def model_config(trained: TrainedModel, text_model: TextModel) -> dict[str, Any]:
    """Return the whole of `config.json`; nothing is left to a default that could change."""
    arguments = trained.model.arguments
    std = trained.model.tokens.embedding_dim**-0.5
    return {
        "architectures": ["XLMWithLMHeadModel"],
        "model_type": "xlm",
        "vocab_size": arguments["vocab_size"],
        "emb_dim": arguments["dim"],
        "n_layers": arguments["layers"],
        "n_heads": arguments["heads"],
        "dropout": arguments["dropout"],
        "attention_dropout": arguments["attention_dropout"],
        "gelu_activation": arguments["activation"] == "gelu",
        "sinusoidal_embeddings": arguments["position_init"] == "fixed_sinusoidal",
        "max_position_embeddings": arguments["max_positions"],
        "causal": trained.causal,
        "asm": False,
        "is_encoder": True,
        "n_langs": len(trained.languages),
        "use_lang_emb": arguments["language_embeddings"],
        "layer_norm_eps": NORM_EPS,
        "embed_init_std": std,
        "init_std": std,
        "bos_token_id": 0,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "unk_index": UNK,
        "mask_index": MASK,
        "mask_token_id": MASK,
        "lang_id": 0,
        **language_ids(trained.languages),
        "tie_word_embeddings": arguments["tied_output"],
        "dtype": "float32",
        PROVENANCE: {
            "version": __version__,
            "objective": trained.objective,
            "stream_length": trained.stream_length,
            **origin(trained.facts, text_model),
        },
    }


def tokenizer_config(trained: TrainedModel, lowercase_and_remove_accent: bool) -> dict[str, Any]:
    """Return the whole of `tokenizer_config.json`."""
    return {
        "tokenizer_class": "XLMTokenizer",
        "do_lowercase_and_remove_accent": lowercase_and_remove_accent,
        "model_max_length": trained.model.max_positions,
        **language_ids(trained.languages),
        "bos_token": "<s>",
        "sep_token": "</s>",
        "cls_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<special1>",
    }


def language_ids(languages: list[str]) -> dict[str, dict[str, Any]]:
    """Both directions, as transformers keeps them: JSON turns the numbers of id2lang into text."""
    return {
        "lang2id": {language: index for index, language in enumerate(languages)},
        "id2lang": {str(index): language for index, language in enumerate(languages)},
    }


@dataclass(frozen=True)
class Described:
    """What a folder's `config.json` says of its model."""

    arguments: dict[str, Any]  # of `XLM`
    languages: list[str] | None  # None: not told here
    causal: bool | None  # None: not told, as in folders of 2019
    objective: str | None  # as we wrote it ourselves
    stream_length: int
    facts: dict[str, Any]


def read_config(path: Path) -> Described:
    """Understand a `config.json` of any version of transformers.

    Raises `UserError` for another kind of model, and for what has no counterpart here.
    """
    config = read_json(path)
    if config.get("model_type", "xlm") != "xlm":
        raise UserError(f"{path}: model_type {config['model_type']}; only xlm can be read here")
    config.setdefault("vocab_size", config.get("n_words"))  # its name in folders of 2019
    _check_numbers(config, path)
    for key, understood in _FIXED.items():
        if config.get(key, understood) != understood:
            raise UserError(f"{path}: {key}={config[key]} is not known here, only {understood}")
    ours = _own_part(config, path)
    return Described(
        arguments={
            "vocab_size": config["vocab_size"],
            "num_languages": config["n_langs"],
            "layers": config["n_layers"],
            "dim": config["emb_dim"],
            "heads": config["n_heads"],
            "dropout": config.get("dropout", 0.1),
            "attention_dropout": config.get("attention_dropout", 0.1),
            "max_positions": config["max_position_embeddings"],
            "activation": "gelu" if config.get("gelu_activation", True) else "relu",
            "language_embeddings": config.get("use_lang_emb", True),
            "tied_output": config.get("tie_word_embeddings", True),
            "position_init": (
                "fixed_sinusoidal" if config.get("sinusoidal_embeddings") else "random"
            ),
        },
        languages=read_languages(config, path),
        causal=config.get("causal"),
        objective=ours.get("objective"),
        stream_length=ours.get("stream_length", min(256, config["max_position_embeddings"])),
        facts=_ORIGIN_UNKNOWN
        | {
            key: value
            for key, value in ours.items()
            if key not in ("version", "objective", "stream_length")
        },
    )


def _own_part(config: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """What an export of ours adds, empty in the folders of others."""
    ours = config.get(PROVENANCE, {})
    if (
        not isinstance(ours, dict)
        or ours.get("objective") not in (None, "clm", "mlm", "tlm")
        or type(ours.get("stream_length", 2)) is not int
        or ours.get("stream_length", 2) < 2
    ):
        raise UserError(f"{path}: {PROVENANCE} is not as xlm-export writes it")
    return ours


def _check_numbers(config: Mapping[str, Any], path: Path) -> None:
    """A shape must be told in whole numbers that fit together."""
    for key in _NEEDED:
        value = config.get(key)
        if value is None:
            raise UserError(f"{path}: {key} is missing; transformers would guess, and wrongly")
        if type(value) is not int or value < 1:
            raise UserError(f"{path}: {key}={value!r} must be a whole number, at least 1")
    if config["emb_dim"] % config["n_heads"]:
        raise UserError(
            f"{path}: n_heads={config['n_heads']} does not divide emb_dim={config['emb_dim']}"
        )


def read_languages(config: Mapping[str, Any], path: Path) -> list[str] | None:
    """Return the languages in the order of their ids, None where `config` does not name them."""
    ids = config.get("lang2id")
    if ids is None:
        return None
    numbers = list(ids.values()) if isinstance(ids, dict) else [None]
    if any(type(number) is not int for number in numbers) or {*numbers} != {*range(len(numbers))}:
        raise UserError(f"{path}: lang2id={ids} must give languages the ids 0, 1, 2, ...")
    return sorted(ids, key=ids.__getitem__)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or say in one line why it cannot be."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a JSON object")
    return content
