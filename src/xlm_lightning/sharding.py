"""A model shared out to the devices (PyTorch's fully sharded data parallelism), and whole again.

Each layer is gathered from all devices when it is computed; embeddings and output stay gathered for
the whole step. The step's result is that of plain data parallelism, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from xlm_lightning.model import XLM
from xlm_lightning.translator import Translator

Model = TypeVar("Model", bound=XLM | Translator)
PREFIX = "model."  # of the model's tensors among those of the task
_WHOLE = StateDictOptions(full_state_dict=True)
STEPS = ("training_step", "validation_step", "test_step")


def shard(task: nn.Module, model: XLM, mesh: DeviceMesh) -> None:
    """Share out the parameters of `task.model`; the `STEPS` of the task are what runs it."""
    if isinstance(task, FSDPModule):
        return
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(task, mesh=mesh)
    for name in STEPS:
        register_fsdp_forward_method(task, name)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor gathered from all devices; to be called on all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """Return this rank's share of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_weights(task: nn.Module, model: XLM | Translator) -> dict[str, Tensor]:
    """Return the tensors of `model`, gathered from all devices; to be called on all ranks."""
    if not isinstance(task, FSDPModule):
        return model.state_dict()
    weights: dict[str, Any] = get_model_state_dict(task, options=_WHOLE)
    return {name.removeprefix(PREFIX): whole(tensor) for name, tensor in weights.items()}


def whole_model(task: nn.Module, model: Model) -> Model:
    """Return `model`, or a copy of it where it is shared out; to be called on all ranks."""
    if not isinstance(task, FSDPModule):
        return model
    with torch.device("meta"):
        copy = type(model)(**model.arguments)
    copy.load_state_dict(whole_weights(task, model), assign=True)
    copy.train(model.training)
    return copy


def load_weights(task: nn.Module, model: XLM | Translator, weights: Mapping[str, Tensor]) -> None:
    """Load whole tensors into `model`, shared out or not; to be called on all ranks."""
    if not isinstance(task, FSDPModule):
        model.load_state_dict(weights)
        return
    named: dict[str, Any] = {PREFIX + name: tensor for name, tensor in weights.items()}
    set_model_state_dict(task, named, options=_WHOLE)
