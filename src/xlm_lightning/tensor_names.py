"""Tensors of the original XLM and of transformers: read without running a pickle, and their names.

Both use the same names; transformers puts `transformer.` in front of all but the output layer's.
Queries, keys and values are one matrix here and three there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm_lightning.errors import UserError
from xlm_lightning.model import XLM

_OUTPUT_WEIGHT = "pred_layer.proj.weight"
_WHOLE = {
    "tokens.weight": "embeddings.weight",
    "positions.weight": "position_embeddings.weight",
    "languages.weight": "lang_embeddings.weight",
    "embedding_norm.weight": "layer_norm_emb.weight",
    "embedding_norm.bias": "layer_norm_emb.bias",
    "output_weight": _OUTPUT_WEIGHT,
    "output_bias": "pred_layer.proj.bias",
}
_IN_LAYER = {
    "attention.qkv": "attentions.{layer}.{part}_lin",
    "attention.out": "attentions.{layer}.out_lin",
    "attention_norm": "layer_norm1.{layer}",
    "expand": "ffns.{layer}.lin1",
    "contract": "ffns.{layer}.lin2",
    "feed_forward_norm": "layer_norm2.{layer}",
}
_IGNORED = frozenset({"position_ids"})  # a buffer of some versions of transformers


def read_pickle(path: Path, harmless: Sequence[Any] = ()) -> Any:
    """Read what `torch.save` wrote: tensors, plain containers and `harmless` types, nothing else.

    Raises `UserError` that names the file which is damaged, or could run a program.
    """
    try:
        with torch.serialization.safe_globals(list(harmless)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle ends in any of them
        raise UserError(f"{path} cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """In a few words; torch's own advice is to run the pickle after all."""
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if foreign is not None:
        return f"it asks for {foreign[1]}, and only tensors and plain containers are read"
    if "Weights only load failed" in str(error):
        return "not a file of tensors, or damaged"
    return str(error).partition("\n")[0] or "it ends too early"


def original_names(ours: str) -> list[str]:
    """Return the original's tensors that make up one of ours, stacked along the first axis."""
    if ours in _WHOLE:
        return [_WHOLE[ours]]
    _, layer, rest = ours.split(".", 2)
    module, _, kind = rest.rpartition(".")
    template = f"{_IN_LAYER[module]}.{kind}"
    parts = "qkv" if "{part}" in template else "-"
    return [template.format(layer=layer, part=part) for part in parts]


def to_original(model: XLM) -> dict[str, Tensor]:
    """Return the weights under the original's names, a tied output layer left out."""
    tensors: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        names = original_names(ours)
        parts = tensor.chunk(len(names))
        tensors |= {name: part.contiguous() for name, part in zip(names, parts, strict=True)}
    return tensors


def to_transformers(model: XLM) -> dict[str, Tensor]:
    """Return the weights under transformers' names, a tied output layer left out."""
    return {
        name if name.startswith("pred_layer.") else f"transformer.{name}": tensor
        for name, tensor in to_original(model).items()
    }


def load_original(model: XLM, tensors: Mapping[str, Tensor], source: str) -> None:
    """Give `model` the tensors under the original's names; it may be on the meta device.

    Raises `UserError` that names the tensor which is missing, left over or of another shape, or an
    output layer that differs from the embeddings where they should be one. `source` names the file.
    """
    left = {name: tensor for name, tensor in tensors.items() if name not in _IGNORED}
    if model.output_weight is None:
        output = left.pop(_OUTPUT_WEIGHT, None)
        embeddings = left.get("embeddings.weight")
        if output is not None and embeddings is not None and not torch.equal(output, embeddings):
            raise UserError(
                f"{source}: {_OUTPUT_WEIGHT} differs from embeddings.weight, but the model's "
                "configuration says that they are one"
            )
    state: dict[str, Tensor] = {}
    for ours, wanted in model.state_dict().items():
        parts = []
        for name in original_names(ours):
            if name not in left:
                raise UserError(f"{source}: tensor {name} is missing")
            parts.append(left.pop(name))
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        if whole.shape != wanted.shape:
            have = [tuple(part.shape) for part in parts]
            raise UserError(
                f"{source}: tensor {original_names(ours)[0]} has the shape {have[0]}, the model's "
                f"configuration asks for {_expected(wanted, len(parts))}"
            )
        state[ours] = whole.to(wanted.dtype)
    if left:
        raise UserError(f"{source}: tensor {min(left)} does not belong to such a model")
    model.load_state_dict(state, assign=True)


def _expected(wanted: Tensor, parts: int) -> tuple[int, ...]:
    rows, *rest = wanted.shape
    return (rows // parts, *rest)
