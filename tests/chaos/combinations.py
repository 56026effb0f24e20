"""The kill test for every combination of what may change how a run is resumed.

    python tests/chaos/combinations.py --kills 3

{fp32, bf16-mixed} x {accumulation 1, 4} x {1, 2 ranks} x {with, without validation} x {0, 2
workers}: 32 rows. With a GPU (`trainer.accelerator=gpu` behind the options) fp16 with its scaler
makes 48; a CPU has none, see `tests/test_numerical_faults.py`. Exit codes as of `kills.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos import kills
from commands import run
from crumbs import crumbs_of


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=3, help="effective ones, for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*", help="more words for xlm-train")
    options = parser.parse_args(arguments)
    precisions = ["32", "bf16-mixed"]
    if "trainer.accelerator=gpu" in options.words:
        precisions.append("16-mixed")
    print(kills.HEADER)
    codes = []
    with tempfile.TemporaryDirectory() as scratch:
        tiny = Path(scratch, "tiny")
        run("xlm-prepare", "corpus=sample_tiny", f"out={tiny}", cwd=tiny.parent).expect()
        data = crumbs_of(tiny)
        every = product(precisions, (1, 4), (1, 2), (20, kills.STEPS + 1), (0, 2))
        for number, (precision, accumulation, ranks, interval, workers) in enumerate(every):
            more = [
                f"trainer.precision={precision}",
                f"trainer.accumulate_grad_batches={accumulation}",
                f"data.slots_per_step={accumulation * ranks}",
                f"trainer.val_check_interval={interval}",
                f"data.workers={workers}",
                *options.words,
            ]
            name = f"{precision} x{accumulation} ranks {ranks} workers {workers}"
            name += " validated" if interval < kills.STEPS else ""
            words = kills.words_of(data, ranks, more)
            folder = Path(scratch, str(number))
            seed = options.seed + number
            codes.append(
                kills.trials(name, words, folder, lambda: None, options.kills, seed, ranks)
            )
    return max(codes, key=(0, 2, 1, 3).index)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
