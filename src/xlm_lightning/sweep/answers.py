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


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What came of a job."""

    status: Status
    exit_code: int | None = None  # of its process
    perplexity: float | None = None  # mean over languages, of valid or what was scored
    bleu: float | None = None  # of a translator, mean over directions
    by_language: str | None = None  # what the mean is of: `de=5.712 en=5.340`, `de-en=31.20`
    seconds: float | None = None
    run_dir: str | None = None
    error: str | None = None

    @property
    def merit(self) -> float | None:
        """What jobs are compared by, the more the better: BLEU, or else perplexity below 0."""
        if self.bleu is not None:
            return self.bleu
        return None if self.perplexity is None else -self.perplexity

    @property
    def figure(self) -> str:
        """The same for people, empty where there is none."""
        if self.bleu is not None:
            return f"BLEU {self.bleu:.2f}"
        return "" if self.perplexity is None else f"perplexity {self.perplexity:.3f}"


NOT_RUN = Ending(status="not run")


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
        bleu=scored.get("mean", {}).get("bleu"),
        by_language=_by_language(scored),
        seconds=told.get("seconds"),
        run_dir=told.get("run_dir"),
        error=error,
    )


def _by_language(scored: Mapping[str, Any]) -> str | None:
    translates = "bleu" in scored.get("mean", {})
    name, digits = ("bleu", 2) if translates else ("perplexity", 3)
    figures = [
        f"{language}={row[name]:.{digits}f}"
        for language, row in scored.items()
        if language != "mean" and isinstance(row, dict) and name in row
    ]
    return " ".join(figures) or None
