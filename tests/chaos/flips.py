"""Flip single bits of checkpoints and of a prepared folder's files; every flip must be found.

    python tests/chaos/flips.py --count 1000

Exit code 1 when one goes unnoticed or is told without the name of its file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from commands import run
from crumbs import crumbs_of
from in_process import call
from training import WORDS

from data_prep.verify import verify
from xlm_lightning.checkpoint import newest_whole, read_whole
from xlm_lightning.errors import UserError


def flip(file: Path, bit: int) -> None:
    """Flip one bit; twice is as before."""
    with file.open("r+b") as opened:
        opened.seek(bit // 8)
        (byte,) = opened.read(1)
        opened.seek(bit // 8)
        opened.write(bytes([byte ^ 1 << bit % 8]))


def missed(
    files: Sequence[Path], check: Callable[[Path], object], count: int, draw: random.Random
) -> list[str]:
    """Return the flips that `check` did not answer with a `UserError` that names the file."""
    found = []
    for number in range(count):
        file = files[number % len(files)]
        bit = draw.randrange(8 * file.stat().st_size)
        flip(file, bit)
        try:
            check(file)
            found.append(f"{file.name}, bit {bit}: accepted")
        except UserError as error:
            if file.name not in str(error):
                found.append(f"{file.name}, bit {bit}: {error}")
        except Exception as error:
            found.append(f"{file.name}, bit {bit}: {type(error).__name__}: {error}")
        flip(file, bit)
        if number % 100 == 0:
            check(file)  # whole again, or the flips would prove nothing
    return found


def is_gone_on_from(file: Path) -> None:
    """Complain of a checkpoint that a run would pass over."""
    if newest_whole(file.parent) != file:
        raise UserError(f"{file} is passed over")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="flips of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        tiny = Path(scratch, "tiny")
        run("xlm-prepare", "corpus=sample_tiny", f"out={tiny}", cwd=tiny.parent).expect()
        data = crumbs_of(tiny)
        folder = Path(scratch, "run")
        words = [*WORDS, f"data.dir={data}", "trainer.max_steps=10", f"run.dir={folder}"]
        call("xlm-train", *words, "trainer.val_check_interval=5").expect()
        checkpoints = folder / "checkpoints"
        shards = sorted(data.glob("*/*.bin"))
        kinds: dict[str, tuple[list[Path], Callable[[Path], object]]] = {
            "the newest checkpoint": ([(checkpoints / "last.ckpt").resolve()], is_gone_on_from),
            "the best checkpoint": (sorted(checkpoints.glob("best-*.ckpt")), read_whole),
            "shards": (shards, lambda file: verify(data)),
            "documents' indices": (
                [shard.with_suffix(".docs.npy") for shard in shards],
                lambda file: verify(data),
            ),
            "codes and vocab": ([data / "codes", data / "vocab"], lambda file: verify(data)),
        }
        print(f"{'':24} {'flips':>6} {'found':>6} {'seconds':>8}")
        for name, (files, check) in kinds.items():
            began = time.monotonic()
            with contextlib.redirect_stderr(io.StringIO()):
                unnoticed = missed(files, check, options.count, draw)
            found = options.count - len(unnoticed)
            print(f"{name:24} {options.count:6} {found:6} {time.monotonic() - began:8.0f}")
            for told in unnoticed[:5]:
                print(f"  {told}")
            failed += len(unnoticed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
