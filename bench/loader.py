"""Tokens per second of the streaming loader beside nanoGPT-style random-offset reading.

The peer draws random offsets into one memory-mapped file per batch and widens the tokens to int64,
as nanoGPT's `get_batch` does: no worker, no order to resume, no weights, blocks drawn with
replacement. A second figure is what a training step of 50 ms waits for its batch.

Run: python bench/loader.py
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from xlm_lightning.manifest import Manifest, Shard
from xlm_lightning.streaming.loader import SlotBatches, TrainLoader
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.plan import Plan
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import Turns

BATCH_SIZE, STREAM_LENGTH, VOCAB_SIZE = 64, 256, 64_699
SHARD_TOKENS = 4 * 2**20  # 8 MB
SHARDS = {"de": 4, "en": 6}  # 84 MB: stays in the page cache
BATCHES, REPEATS = 500, 4
STEP_SECONDS, STEPS = 0.050, 60

Batches = Iterator[torch.Tensor]


def write_folder(folder: Path) -> None:
    """Shards of random ids with a manifest."""
    random = np.random.default_rng(0)
    splits: dict[str, dict[str, list[Shard]]] = {"train": {}}
    (folder / "train").mkdir()
    for language, count in SHARDS.items():
        for index in range(count):
            data = random.integers(0, VOCAB_SIZE, SHARD_TOKENS).astype("<u2").tobytes()
            name = f"train/{language}-{index:05d}.bin"
            (folder / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            shard = Shard(name, len(data), SHARD_TOKENS, 0, 0, 0, 0, 0, digest, "")
            splits["train"].setdefault(language, []).append(shard)
    write_manifest(folder, splits)


def write_manifest(folder: Path, splits: dict[str, dict[str, list[Shard]]]) -> None:
    """A manifest, and beside it codes and a vocabulary that nobody reads."""
    for name in ("codes", "vocab"):
        (folder / name).write_bytes(b"")
    nothing = hashlib.sha256(b"").hexdigest()
    text = {"mode": "moses", "lowercase_and_remove_accent": False}
    Manifest(VOCAB_SIZE, nothing, nothing, text, splits).save(folder)


def ours(folder: Path, workers: int) -> Batches:
    """Batches as the model gets them: widened to int64, as the data module does."""
    shards = TokenShards(folder, "train", STREAM_LENGTH)
    loader = TrainLoader(
        SlotBatches(
            Plan(0, BATCH_SIZE, shards.blocks(), 0.7),
            shards,
            Turns({"clm": [(0, 1.0)]}, 1),
            Masking(0.15, 0.8, 0.1, 0.0, []),
        ),
        lambda: 0,
        rank=0,
        world_size=1,
        length=2**40,
        workers=workers,
        pin_memory=False,
    )
    for batch in loader:
        yield batch["tokens"].to(torch.int64)


def peer(folder: Path) -> Batches:
    """Blocks at random offsets of one file after another."""
    random = np.random.default_rng(0)
    files = [np.memmap(path, "<u2", "r") for path in sorted((folder / "train").glob("*.bin"))]
    while True:
        tokens = files[random.integers(len(files))]
        offsets = random.integers(0, len(tokens) - STREAM_LENGTH, BATCH_SIZE)
        rows = [torch.from_numpy(tokens[i : i + STREAM_LENGTH].astype(np.int64)) for i in offsets]
        yield torch.stack(rows)


def tokens_per_second(batches: Batches) -> float:
    """Speed over `BATCHES` batches, after the start-up."""
    for _ in islice(batches, 20):
        pass
    start = time.perf_counter()
    for _ in islice(batches, BATCHES):
        pass
    return BATCHES * BATCH_SIZE * STREAM_LENGTH / (time.perf_counter() - start)


def milliseconds_waited(batches: Batches) -> float:
    """Median wait for a batch of a training loop whose step leaves the CPU idle for 50 ms."""
    waits = []
    for _ in range(STEPS):
        start = time.perf_counter()
        next(batches)
        waits.append(time.perf_counter() - start)
        time.sleep(STEP_SECONDS)
    return 1000 * statistics.median(waits[5:])


def report(
    name: str, unit: str, us: Callable[[], float], them: Callable[[], float], more_is_better: bool
) -> None:
    """Measure both alternately and print one line; the best of each counts on a busy machine."""
    best = max if more_is_better else min
    pairs = [(us(), them()) for _ in range(REPEATS)]
    mine, theirs = (best(values) for values in zip(*pairs, strict=True))
    ratio = mine / theirs if more_is_better else theirs / mine
    line = {
        "name": name,
        "ours": round(mine, 3),
        "peer": round(theirs, 3),
        "peer_name": "random-offset memmap (nanoGPT style)",
        "ratio": round(ratio, 3),
        "unit": unit,
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    """Print tokens/s and the wait of a 50 ms step, without and with workers."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder)
        for workers in (0, 2):
            report(
                f"loader_workers_{workers}",
                "tokens/s",
                lambda: tokens_per_second(ours(folder, workers)),  # noqa: B023
                lambda: tokens_per_second(peer(folder)),
                more_is_better=True,
            )
        for workers in (0, 1, 2):
            report(
                f"loader_wait_of_a_50_ms_step_workers_{workers}",
                "ms",
                lambda: milliseconds_waited(ours(folder, workers)),  # noqa: B023
                lambda: milliseconds_waited(peer(folder)),
                more_is_better=False,
            )


if __name__ == "__main__":
    main()
