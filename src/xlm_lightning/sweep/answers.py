"""What a job tells the sweep that started it, and what the sweep makes of its end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xlm_lightning.atomic import write_json
from xlm_lightning.launch import end_with_parent

ANSWER_FILE = "XLM_SWEEP_ANSWER"  # environment: where a job leaves its result or its complaint
SWEEP_PID = "XLM_SWEEP_PID"  # environment: the process with which a job ends

Status = Literal["finished", "stopped", "pruned", "failed", "not run"]


@dataclass(frozen=True)
class Ending:
    """What came of a job."""

    status: Status
    exit_code: int | None  # of its process
    perplexity: float | None  # mean over languages, of valid or what was scored
    by_language: str | None  # the perplexities that it is the mean of: `de=5.712 en=5.340`
    seconds: float | None
    run_dir: str | None
    error: str | None


NOT_RUN = Ending("not run", None, None, None, None, None, None)


def tell_sweep(answer: Mapping[str, Any]) -> None:
    """Leave the result of this job, or its error, where the sweep that started it will look."""
    path = os.environ.get(ANSWER_FILE)
    if path is not None:
        write_json(Path(path), answer)


def follow_sweep() -> None:
    """Ask the kernel for a SIGTERM when the sweep dies: a job that nobody watches stops and saves.

    Only Linux offers it; elsewhere the jobs of a killed sweep run on to their end.
    """
    sweep = os.environ.pop(SWEEP_PID, None)
    if sweep is None or not end_with_parent(signal.SIGTERM):
        return
    if os.getppid() != int(sweep):  # it had died before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def read_answer(path: Path) -> dict[str, Any]:
    """Return what a job has told, nothing where it was killed before."""
    told: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return told


def ending_of(code: int, told: Mapping[str, Any], *, signalled: bool) -> Ending:
    """`code` as `Popen` gives it: -n for a job that signal n has ended before it could answer.

    `signalled`: by the sweep itself; any other death is a failure.
    """
    stopped = signalled or told.get("status") == "stopped"
    error = told.get("error")
    if stopped or code < 0:
        error = signal.Signals(abs(code) % 128).name if code else None
    elif code and error is None:
        error = f"exit code {code}"
    scored = told.get("valid", told)
    return Ending(
        status="finished" if code == 0 else "stopped" if stopped else "failed",
        exit_code=128 - code if code < 0 else code,
        perplexity=scored.get("mean", {}).get("perplexity"),
        by_language=_by_language(scored),
        seconds=told.get("seconds"),
        run_dir=told.get("run_dir"),
        error=error,
    )


def _by_language(scored: Mapping[str, Any]) -> str | None:
    figures = [
        f"{name}={row['perplexity']:.3f}"
        for name, row in scored.items()
        if name != "mean" and isinstance(row, dict) and "perplexity" in row
    ]
    return " ".join(figures) or None
