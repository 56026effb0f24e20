"""Real processes killed with SIGKILL, resumed on the same or another number of ranks.

Whatever happened, the micro-batches of every optimiser step and the final weights must be those of
a run that nothing ever stopped. The text is so short that passes over a language end before and
after each kill, and validations come in between.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import toy_training
from toy_training import BATCH_SIZE, Run, data_module, read_log

STEPS, VAL_STEPS, SAVE_STEPS = 10, 2, 3


@dataclass(frozen=True)
class Stage:
    """One start of the program: on how many ranks, and at which step it is killed."""

    ranks: int
    kill_at: int | None
    workers: int = 0


def trained(out: Path, ranks: int) -> list[tuple[int, int, str]]:
    """(step, slot, hash) of all micro-batches of all ranks, in the order of their slots."""
    entries = [entry for rank in range(ranks) for entry in read_log(out, rank)]
    return sorted((entry["step"], entry["slot"], entry["sha256"]) for entry in entries)


def newest(out: Path) -> tuple[int, Path]:
    return max((int(path.stem.partition("=")[2]), path) for path in out.glob("step=*.ckpt"))


def start(run: Run) -> int:
    """Run the toy program in a session of its own; return its exit code."""
    values = {f.name: getattr(run, f.name) for f in fields(run)}
    settings = [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in values.items()
        if value is not None
    ]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", toy_training.__file__, *settings],
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        timeout=180,
        check=False,
    )
    if process.returncode not in (0, -signal.SIGKILL):
        pytest.fail(process.stderr.decode()[-9000:])
    return process.returncode


def stage_run(folder: Path, out: Path, stage: Stage, slots_per_step: int) -> Run:
    accumulate = slots_per_step // stage.ranks
    return Run(
        folder,
        out,
        STEPS,
        devices=stage.ranks,
        accumulate=accumulate,
        workers=stage.workers,
        val_every=VAL_STEPS * accumulate,
        save_every=SAVE_STEPS,
        kill_at=stage.kill_at,
    )


def passes(run: Run, slots: int) -> dict[str, int]:
    """How often the first `slots` slots have gone through all text of each language."""
    data = data_module(run)
    blocks = data.train_shards.blocks()
    return {
        language: count * BATCH_SIZE // sum(blocks[language])
        for language, count in data.plan.counts(slots).items()
    }


def run_stages(folder: Path, out: Path, stages: list[Stage], slots_per_step: int) -> None:
    """Train through all stages and compare with the run that nothing stopped."""
    whole = stage_run(folder, out / "whole", Stage(stages[0].ranks, None), slots_per_step)
    whole.out.mkdir()
    start(whole)
    kept: list[tuple[int, int, str]] = []
    resume, done = None, 0
    for number, stage in enumerate(stages):
        run = replace(stage_run(folder, out / str(number), stage, slots_per_step), resume=resume)
        run.out.mkdir()
        assert start(run) == (0 if stage.kill_at is None else -signal.SIGKILL)
        kept = [entry for entry in kept if entry[0] < done] + trained(run.out, stage.ranks)
        if stage.kill_at is not None:
            done, resume = newest(run.out)
            assert done < stage.kill_at  # some work is lost, so something can go wrong
            before, in_all = (passes(run, step * slots_per_step) for step in (done, STEPS))
            assert any(before.values())
            assert any(in_all[language] > before[language] for language in before)
            kept = [entry for entry in kept if entry[0] < done]
    assert kept == trained(whole.out, whole.devices)
    assert [slot for _, slot, _ in kept] == list(range(STEPS * slots_per_step))
    # More than two gradients are added in another order on another number of ranks.
    if slots_per_step == 2 or all(stage.ranks == whole.devices for stage in stages):
        assert (run.out / "weights").read_text() == (whole.out / "weights").read_text()


@pytest.mark.slow
def test_killed_on_two_ranks_then_on_one_and_finished_on_two(
    short_folder: Path, tmp_path: Path
) -> None:
    stages = [Stage(2, 5, workers=1), Stage(1, 8), Stage(2, None)]
    run_stages(short_folder, tmp_path, stages, slots_per_step=2)


RANKS = list(itertools.product([1, 2], [1, 2]))


@pytest.mark.slow
@pytest.mark.parametrize("slots_per_step", [2, 4])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", RANKS, ids=[f"{a}to{b}" for a, b in RANKS])
def test_killed_and_resumed(
    short_folder: Path,
    tmp_path: Path,
    ranks: tuple[int, int],
    workers: int,
    slots_per_step: int,
) -> None:
    """In the first pass over a language or in a later one."""
    kill_at = 4 if (workers == 0) == (slots_per_step == 2) else 8
    stages = [Stage(ranks[0], kill_at, workers), Stage(ranks[1], None, workers)]
    run_stages(short_folder, tmp_path, stages, slots_per_step)
