"""Training step beside transformers' XLM: tokens per second, alternately in one process.

    python bench/train_step.py [--rounds 6] [--shapes small,published] [--precisions bf16,fp32]

Both models have the same shape, dropout 0.1 / 0.1, the same fused AdamW and the same batch. Ours
runs as `xlm-train` runs it, with `keep_freed_memory`; the peer once as it comes, with glibc's own
settings, and once with ours, which speed it up as well. Prints the ratios of medians as one JSON
object a line. What Lightning's loop adds to a step: `bench/loop.py`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from xlm_lightning.machine import cpu_has_bf16, keep_freed_memory
from xlm_lightning.model import XLM

SHAPES = {  # layers, dim, vocabulary, batch
    "small": (4, 256, 8192, 16),
    "published": (6, 1024, 64_699, 2),
}
TIME = 256
Step = Callable[[], None]


def our_step(layers: int, dim: int, vocab_size: int, tokens: torch.Tensor, bf16: bool) -> Step:
    model = XLM(vocab_size=vocab_size, num_languages=2, layers=layers, dim=dim, heads=8).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    language = torch.tensor([[0]])

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model.loss(model(tokens[:, :-1], language), tokens[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def their_step(layers: int, dim: int, vocab_size: int, tokens: torch.Tensor, bf16: bool) -> Step:
    from transformers import XLMConfig, XLMWithLMHeadModel

    config = XLMConfig(
        vocab_size=vocab_size,
        emb_dim=dim,
        n_layers=layers,
        n_heads=8,
        causal=True,
        n_langs=2,
        dropout=0.1,
        attention_dropout=0.1,
        max_position_embeddings=512,
    )
    model = XLMWithLMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    languages = torch.zeros_like(tokens)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(tokens, langs=languages).logits
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def default_allocator() -> None:
    """Give glibc back the settings that its own adaptation reaches after some large buffers."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-1, 64 << 20)  # M_TRIM_THRESHOLD
    libc.mallopt(-2, 1 << 17)  # M_TOP_PAD
    libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: larger buffers come from the kernel
    libc.mallopt(-4, 1 << 16)  # M_MMAP_MAX


def compare(name: str, precision: str, rounds: int) -> list[dict[str, Any]]:
    """Take turns and compare medians, so that a busy moment hits all."""
    layers, dim, vocab_size, batch = SHAPES[name]
    torch.manual_seed(0)
    tokens = torch.randint(14, vocab_size, (batch, TIME))
    ours, theirs = (
        make(layers, dim, vocab_size, tokens, precision == "bf16")
        for make in (our_step, their_step)
    )
    turns = {
        "ours": (keep_freed_memory, ours),
        "as it comes": (default_allocator, theirs),
        "with keep_freed_memory": (keep_freed_memory, theirs),
    }
    seconds: dict[str, list[float]] = {turn: [] for turn in turns}
    for round_ in range(rounds + 1):
        for turn, (set_allocator, step) in turns.items():
            set_allocator()
            step()  # the first one after a change allocates
            started = time.perf_counter()
            step()
            if round_:
                seconds[turn].append(time.perf_counter() - started)
    speed = {turn: batch * TIME / statistics.median(values) for turn, values in seconds.items()}
    shape = f"{name} {layers}x{dim}x{vocab_size} batch {batch}x{TIME}"
    return [
        {
            "name": f"train_step {shape} {precision}",
            "ours": round(speed["ours"], 1),
            "peer": round(speed[turn], 1),
            "peer_name": f"transformers XLMWithLMHeadModel {turn}, {precision}",
            "ratio": round(speed["ours"] / speed[turn], 3),
            "unit": "tokens/s",
            "threads": torch.get_num_threads(),
        }
        for turn in ("as it comes", "with keep_freed_memory")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--shapes", default="small,published")
    # without instructions for bf16 a step takes minutes, for both
    parser.add_argument("--precisions", default="bf16,fp32" if cpu_has_bf16() else "fp32")
    arguments = parser.parse_args()
    for name in arguments.shapes.split(","):
        for precision in arguments.precisions.split(","):
            for result in compare(name, precision, arguments.rounds):
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
