"""What more processes, 64 ranks and a terabyte of text cost.

Three comparisons, each pair alternately in one run:
- the shape 4 x 256 trained by `xlm-train` with two gloo processes of one thread, beside one process
  of two threads: the same optimizer steps from the same 32 sequences of 256 tokens;
- the loader of one rank of 64, beside random-offset reading of memory-mapped files as nanoGPT does;
- opening a prepared folder of one terabyte (sparse files under a true manifest), up to the first
  slot and up to slot 32,000,000 (500,000 steps of 64 GPUs), beside opening its files one by one.
A last line is the memory after 2,000 batches from all over that terabyte, beside that after 200.

    python bench/scale.py [--rounds 3] [--steps 30] [--shards 30000] [--batches 2000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from loader import STREAM_LENGTH, peer, tokens_per_second, write_folder, write_manifest

from xlm_lightning.manifest import Manifest, Shard
from xlm_lightning.streaming.loader import SlotBatches, TrainLoader
from xlm_lightning.streaming.masking import Masking
from xlm_lightning.streaming.plan import Plan
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import Turns

RANKS = 64
STEPS_OF_64 = 500_000
SHARD_BYTES = 32 * 2**20
TRAIN_LINES, VALID_LINES, WORDS_OF_A_LINE = 20_000, 10, 20


# --- processes ------------------------------------------------------------------------------------
def run(command: str, *words: str, threads: int = 2) -> str:
    """Run a command of the project and return what it prints."""
    return subprocess.run(
        [Path(sys.executable).with_name(command), *words],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def prepare(folder: Path) -> None:
    """Lines of drawn words in two languages; few to score, since training alone is measured."""
    random = np.random.default_rng(0)
    words = ["".join(chr(97 + c) for c in random.integers(26, size=6)) for _ in range(8_000)]
    files = []
    for split, count in (("train", TRAIN_LINES), ("valid", VALID_LINES)):
        for language in ("de", "en"):
            file = folder / f"{split}.{language}"
            lines = random.choice(words, (count, WORDS_OF_A_LINE))
            file.write_text("".join(" ".join(line) + "\n" for line in lines), "utf-8")
            files.append(f"corpus.{split}.{language}={file}")
    run("xlm-prepare", "corpus=text", *files, "bpe.merges=8000", f"out={folder / 'data'}")


def trained(folder: Path, processes: int, steps: int) -> float:
    """Tokens per second of a short run; the two cores are shared out evenly."""
    words = [
        f"data.dir={folder / 'data'}",
        f"run.dir={folder / f'{processes}-{time.monotonic_ns()}'}",
        "model=base",
        "data.batch_size=16",
        f"data.stream_length={STREAM_LENGTH}",
        "data.slots_per_step=2",
        "data.max_valid_tokens=256",
        "schedule.warmup_steps=1",
        f"trainer.max_steps={steps}",
        f"trainer.val_check_interval={steps}",
        "trainer.precision=32",
        "callbacks.samples.new_tokens=0",
        *(["trainer=ddp_cpu", "trainer.devices=2"] if processes == 2 else ["trainer=cpu"]),
    ]
    told = run("xlm-train", *words, threads=2 // processes)
    return float(json.loads(told.splitlines()[-1])["tokens_per_second"])


# --- one rank of many -----------------------------------------------------------------------------
def batches_of_a_rank(folder: Path) -> TrainLoader:
    """The batches of rank 37 of 64, read in the training process."""
    shards = TokenShards(folder, "train", STREAM_LENGTH)
    return TrainLoader(
        SlotBatches(
            Plan(0, 64, shards.blocks(), 0.7),
            shards,
            Turns({"clm": [(0, 1.0)]}, RANKS),
            Masking(0.15, 0.8, 0.1, 0.0, []),
        ),
        lambda: 0,
        rank=37,
        world_size=RANKS,
        length=2**40,
        workers=0,
        pin_memory=False,
    )


# --- a terabyte -----------------------------------------------------------------------------------
def write_large_folder(folder: Path, shards: int) -> None:
    """Sparse files of the right size: they read as zeros and take no room."""
    splits: dict[str, dict[str, list[Shard]]] = {"train": {"de": [], "en": []}}
    (folder / "train").mkdir(parents=True)
    for index in range(shards):
        language = "en" if index % 5 < 3 else "de"
        name = f"train/{language}-{len(splits['train'][language]):05d}.bin"
        with (folder / name).open("wb") as file:
            file.truncate(SHARD_BYTES)
        tokens = SHARD_BYTES // 2
        shard = Shard(name, SHARD_BYTES, tokens, 10**6, 10**4, 0, 0, 5 * tokens, "0" * 64, "0" * 64)
        splits["train"][language].append(shard)
    write_manifest(folder, splits)


def open_large(folder: Path, slot: int) -> Plan:
    """What a start or a resume does before its first batch."""
    shards = TokenShards(folder, "train", STREAM_LENGTH, Manifest.load(folder))
    plan = Plan(0, 64, shards.blocks(), 0.7)
    plan.counts(slot)
    plan.slot(slot)
    return plan


def map_files(folder: Path) -> None:
    """Map every file, as a program without a manifest must do to know their sizes."""
    for path in sorted((folder / "train").glob("*.bin")):
        np.memmap(path, "<u2", "r")


def memory_of_reading(folder: Path, batches: int) -> tuple[float, float]:
    """Anonymous memory in MB after all of `batches` and after a tenth of them."""
    plan = open_large(folder, 0)
    shards = TokenShards(folder, "train", STREAM_LENGTH)
    slots = np.linspace(0, STEPS_OF_64 * RANKS, batches, dtype=np.int64).tolist()
    megabytes = []
    for count, number in enumerate(slots, 1):
        slot = plan.slot(number)
        shards.read(slot.language, slot.shard, slot.block)
        if count in (batches // 10, batches):
            megabytes.append(anonymous_megabytes())
    early, late = megabytes
    return late, early


def anonymous_megabytes() -> float:
    """Memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


# --- reports --------------------------------------------------------------------------------------
def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(
    name: str,
    unit: str,
    pairs: list[tuple[float, float]],
    peer_name: str,
    *,
    more_is_better: bool = False,
) -> None:
    """Print the medians of ours and the peer's, and their ratio."""
    ours, peers = (statistics.median(values) for values in zip(*pairs, strict=True))
    line = {
        "name": name,
        "ours": round(ours, 3),
        "peer": round(peers, 3),
        "peer_name": peer_name,
        "ratio": round(ours / peers if more_is_better else peers / ours, 3),
        "unit": unit,
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    """Print one line for each comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--shards", type=int, default=30_000)
    parser.add_argument("--batches", type=int, default=2_000)
    asked = parser.parse_args()
    rounds = range(asked.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        pairs = [(trained(folder, 2, asked.steps), trained(folder, 1, asked.steps)) for _ in rounds]
        report(
            "two_processes_of_one_thread",
            "tokens/s",
            pairs,
            "one process of two threads",
            more_is_better=True,
        )
        small = folder / "small"
        small.mkdir()
        write_folder(small)
        pairs = [
            (
                tokens_per_second(batch["tokens"] for batch in batches_of_a_rank(small)),
                tokens_per_second(peer(small)),
            )
            for _ in rounds
        ]
        report(
            "loader_of_one_rank_of_64",
            "tokens/s",
            pairs,
            "random-offset memmap (nanoGPT style)",
            more_is_better=True,
        )
        large = folder / "large"
        write_large_folder(large, asked.shards)
        for what, slot in (("first_slot", 0), ("slot_32_million", STEPS_OF_64 * RANKS)):
            pairs = [
                (seconds(lambda: open_large(large, slot)), seconds(lambda: map_files(large)))  # noqa: B023
                for _ in rounds
            ]
            report(f"open_{asked.shards}_shards_to_{what}", "s", pairs, "mapping each file")
        report(
            f"memory_after_{asked.batches}_batches_of_{asked.shards}_shards",
            "MB",
            [memory_of_reading(large, asked.batches)],
            "after a tenth of them",
        )


if __name__ == "__main__":
    main()
