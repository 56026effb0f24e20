"""Training step beside transformers' XLM: tokens per second.

    python bench/train_step.py [--rounds 6] [--shapes small,published] [--precisions bf16,fp32]
                               [--device cpu]

All models have the same shape, dropout 0.1 / 0.1, the same fused AdamW and the same batch, and take
turns. Each lives in a process of its own: what the C library does with freed memory, which on a CPU
decides about a third of the step, belongs to a process and cannot be undone in it. Ours runs as
`xlm-train` runs it, with `keep_freed_memory`; the peer as it comes, and on a CPU once more with our
setting, which speeds it up as well. Prints the ratios of medians as one JSON object a line. What
Lightning's loop adds to a step: `bench/loop.py`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F

from xlm_lightning.compilation import can_compile
from xlm_lightning.machine import cpu_has_bf16, keep_freed_memory
from xlm_lightning.model import XLM

SHAPES = {  # layers, dim, vocabulary, batch
    "small": (4, 256, 8192, 16),
    "published": (6, 1024, 64_699, 2),
    "recipe": (6, 1024, 64_699, 32),  # what one GPU of the published run was given
}
TIME = 256
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
STEPS_PER_TURN = {"cpu": 1, "cuda": 10}
Step = Callable[[], None]


def our_step(
    layers: int, dim: int, vocab_size: int, tokens: torch.Tensor, autocast: torch.autocast
) -> Step:
    model = XLM(
        vocab_size=vocab_size,
        num_languages=2,
        layers=layers,
        dim=dim,
        heads=8,
        compile_on_gpu=can_compile(),
    )
    model.train().to(tokens.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    language = torch.zeros(1, 1, dtype=torch.int64, device=tokens.device)

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            loss = model.loss(model(tokens[:, :-1], language), tokens[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def their_step(
    layers: int, dim: int, vocab_size: int, tokens: torch.Tensor, autocast: torch.autocast
) -> Step:
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
    model: torch.nn.Module = XLMWithLMHeadModel(config).train().to(tokens.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    languages = torch.zeros_like(tokens)

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            logits = model(tokens, langs=languages).logits
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def serve(
    orders: Connection, ours: bool, keep: bool, name: str, precision: str, device: str
) -> None:
    """Train in this process: seconds a step for each order, until there are no more."""
    if keep:
        keep_freed_memory()
    layers, dim, vocab_size, batch = SHAPES[name]
    torch.manual_seed(0)
    tokens = torch.randint(14, vocab_size, (batch, TIME)).to(device)
    dtype = DTYPES[precision]
    autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)
    step = (our_step if ours else their_step)(layers, dim, vocab_size, tokens, autocast)
    while ordered(orders):
        started = time.perf_counter()
        for _ in range(STEPS_PER_TURN[device]):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        orders.send((time.perf_counter() - started) / STEPS_PER_TURN[device])


def ordered(orders: Connection) -> bool:
    """Wait for the next order; False when there will be none."""
    try:
        orders.recv()
    except EOFError:
        return False
    return True


def compare(name: str, precision: str, device: str, rounds: int) -> list[dict[str, Any]]:
    """Take turns and compare medians, so that a busy moment hits all."""
    turns = {"ours": (True, device == "cpu"), "as it comes": (False, False)}
    if device == "cpu":
        turns["with keep_freed_memory"] = (False, True)
    processes = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {turn: [] for turn in turns}
    with ExitStack() as held:
        connections: dict[str, Connection] = {}
        for turn, (ours, keep) in turns.items():
            connections[turn], orders = processes.Pipe()
            arguments = (orders, ours, keep, name, precision, device)
            process = processes.Process(target=serve, args=arguments, daemon=True)
            process.start()
            orders.close()  # the other process has it: where that one dies, nobody waits here
            held.callback(process.join)
            held.callback(connections[turn].close)  # the end of its orders
        for round_ in range(rounds + 2):  # the first two get memory
            for turn, connection in connections.items():
                connection.send(True)
                taken = connection.recv()
                if round_ > 1:
                    seconds[turn].append(taken)
    layers, dim, vocab_size, batch = SHAPES[name]
    speed = {turn: batch * TIME / statistics.median(values) for turn, values in seconds.items()}
    shape = f"{name} {layers}x{dim}x{vocab_size} batch {batch}x{TIME}"
    return [
        {
            "name": f"train_step {shape} {precision} {device}",
            "ours": round(speed["ours"], 1),
            "peer": round(speed[turn], 1),
            "peer_name": f"transformers XLMWithLMHeadModel {turn}, {precision}",
            "ratio": round(speed["ours"] / speed[turn], 3),
            "unit": "tokens/s",
            "threads": torch.get_num_threads(),
        }
        for turn in list(turns)[1:]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--shapes", default="small,published")
    # without instructions for bf16 a step takes minutes, for both
    parser.add_argument("--precisions", default="bf16,fp32" if cpu_has_bf16() else "fp32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    for name in arguments.shapes.split(","):
        for precision in arguments.precisions.split(","):
            for result in compare(name, precision, arguments.device, arguments.rounds):
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
