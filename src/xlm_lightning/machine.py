"""What this machine can do, and what is set in a process before it trains."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

from xlm_lightning.errors import UserError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
# The largest number that mallopt takes is 2 GiB, which the published shape may free at once.
_NEVER = -1


def keep_freed_memory() -> None:
    """Let glibc reuse large buffers instead of returning each one to the kernel.

    A tensor above 32 MB is otherwise mapped anew at every step, and its pages are faulted in one
    by one: elementwise operations took 4-6 times as long (measured), a training step of a 4 x 256
    model 1.4-1.9 times. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    libc.mallopt(_M_TOP_PAD, 1 << 26)


def allow_deterministic_kernels() -> None:
    """Prepare a GPU for `torch.use_deterministic_algorithms`, which the training step asks for.

    cuBLAS then needs workspaces of its own, told before its first product. That torch would also
    fill each new tensor, to show which ones are read before they are written, costs time.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def uses_gpu(accelerator: str) -> bool:
    """Whether `trainer.accelerator` means a GPU on this machine."""
    return accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())


def require_gpu(key: str, accelerator: str) -> None:
    """Raise `UserError` where `key=gpu` asks for what this machine, or this torch, has not."""
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError(
            f"{key}=gpu: torch finds no GPU on this machine; say {key}=cpu, or install a CUDA "
            "build of torch"
        )


def fastest_precision(accelerator: str) -> str:
    """The fastest precision whose numerics are safe without a look: bf16 where it is native."""
    if uses_gpu(accelerator):
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
        )
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def cpu_has_bf16() -> bool:
    """Whether bf16 matrix products run on instructions of their own; emulated ones crawl.

    Measured on a CPU with AVX2 only: 0.3 GFLOP/s in bf16 and 173 in fp32 for 2048 x 2048.
    """
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def device_and_autocast(accelerator: str, precision: str) -> tuple[torch.device, torch.autocast]:
    """The device and the autocast context that `accelerator` and `precision` mean outside training.

    `precision`: `32-true`, `bf16-mixed`, `16-mixed`, or `auto` for the fastest safe one. Raises
    `UserError` where there is no GPU to use.
    """
    require_gpu("accelerator", accelerator)
    device = torch.device("cuda" if uses_gpu(accelerator) else "cpu")
    name = fastest_precision(accelerator) if precision == "auto" else precision
    dtypes = {"bf16": torch.bfloat16, "16": torch.float16}
    dtype = dtypes.get(name.split("-")[0])
    return device, torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)
