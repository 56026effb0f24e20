"""torch.compile where it pays: the layers and the loss of a model in training on a GPU.

Between the matrix products of a layer, and after those of the loss, torch writes and reads each
intermediate tensor; compiled, a few kernels do (`docs/benchmarks.md` tells what that gives). One
piece of code serves all layers, so that little is compiled. The embeddings stay as they are: the
compiler would add up their gradient in whatever order its threads finish, and the same seed would
not give the same bits any more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch


@cache
def compiled(function: Callable[..., Any], *, dynamic: bool = False) -> Callable[..., Any]:
    """Return `function` compiled at its first call.

    `dynamic`: one code for all lengths, from the first call on. Left to itself the compiler writes
    a second one when it sees a second length, and a resumed run would use another one, with
    other roundings, than a run that was never stopped.
    """
    return torch.compile(function, dynamic=dynamic)


def can_compile() -> bool:
    """Whether Triton is there, which writes the kernels, and a C compiler for what starts them."""
    compilers = (os.environ.get("CC"), "gcc", "clang")
    return find_spec("triton") is not None and any(
        name and shutil.which(name) for name in compilers
    )
