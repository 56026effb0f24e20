"""Proposals of Optuna: trials that learn from those before, in a study kept on disk.

The sweep alone talks to the study; the jobs do not know of it. A trial is pruned by a signal after
its validation figures, read from its `metrics.csv`, have turned out worse than the median of the
others at the same step.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial, TrialState

from xlm_lightning.errors import UserError
from xlm_lightning.monitor import PERPLEXITY, Monitor
from xlm_lightning.sweep.answers import Ending
from xlm_lightning.sweep.jobs import Job


class Study:
    """The jobs of a sweep as trials of Optuna; job numbers are trial numbers."""

    def __init__(
        self,
        path: Path,
        space: Mapping[str, BaseDistribution],
        job_of: Callable[[int, Mapping[str, str]], Job],
        *,
        trials: int,
        startup_trials: int,
        prune: bool,
        seed: int,
        monitor: Monitor,
    ) -> None:
        """Open or begin the study in the SQLite file `path`.

        `job_of` makes the job of a trial's number and values. `trials`: of the whole study.
        `monitor`: of the jobs, a column of their `metrics.csv`.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = dict(space)
        self._job_of = job_of
        self.total = trials
        self._startup_trials = startup_trials
        self._seed = seed
        self._monitor = monitor
        self._study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name="sweep",
            load_if_exists=True,
            direction="minimize" if monitor.mode == "min" else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup_trials)
            if prune
            else optuna.pruners.NopPruner(),
        )
        self._interrupted = self._study.get_trials(states=(TrialState.RUNNING,))
        self._running: dict[int, Trial] = {}
        self._read_bytes: dict[int, int] = {}  # of each running job's metrics.csv

    def next(self) -> Job | None:
        """Go on with a trial that was interrupted, or begin one; None after the last."""
        trial = self._resumed() or self._new()
        if trial is None:
            return None
        self._running[trial.number] = trial
        choice = {key: _as_word(value) for key, value in trial.params.items()}
        return self._job_of(trial.number, choice)

    def ended(self, job: Job, ending: Ending) -> None:
        """Tell the study; a trial that a signal has stopped goes on with the next sweep."""
        trial = self._running.pop(job.number)
        figure = ending.perplexity if self._monitor == PERPLEXITY else ending.bleu
        if ending.status == "finished" and figure is not None:
            self._study.tell(trial, figure)
        elif ending.status == "pruned":
            self._study.tell(trial, state=TrialState.PRUNED)
        elif ending.status != "stopped":
            self._study.tell(trial, state=TrialState.FAIL)

    def is_hopeless(self, job: Job) -> bool:
        """Whether a trial's validations are worse than the median of the others'."""
        trial = self._running[job.number]
        assert job.folder is not None
        metrics = job.folder / "metrics.csv"
        size = metrics.stat().st_size if metrics.is_file() else 0
        if size == self._read_bytes.get(job.number, 0):
            return False
        self._read_bytes[job.number] = size
        known = self._study.trials[trial.number].intermediate_values
        for step, figure in _validations(metrics, self._monitor.name):
            if step not in known:
                trial.report(figure, step)
        return trial.should_prune()

    def _resumed(self) -> Trial | None:
        while self._interrupted:
            before = self._interrupted.pop(0)
            if before.params.keys() == self._space.keys():
                return Trial(self._study, before._trial_id)
            # killed while its values were being drawn
            self._study.tell(before.number, state=TrialState.FAIL)
        return None

    def _new(self) -> Trial | None:
        number = len(self._study.trials)
        if number >= self.total:
            return None
        # of its own for each trial: a study that goes on proposes what a straight one does
        self._study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self._startup_trials, seed=(self._seed * 1_000_003 + number) % 2**32
        )
        return self._study.ask(self._space)


def space_of(overrides: Sequence[Override]) -> dict[str, BaseDistribution]:
    """Return what Optuna may choose from, for each key with several values."""
    return {
        override.key_or_group: _distribution(override)
        for override in overrides
        if override.is_sweep_override()
    }


def ends_of(values: BaseDistribution) -> tuple[str, str]:
    """Return the first and the last value as words."""
    if isinstance(values, CategoricalDistribution):
        return _as_word(values.choices[0]), _as_word(values.choices[-1])
    assert isinstance(values, FloatDistribution | IntDistribution)
    return _as_word(values.low), _as_word(values.high)


def _distribution(override: Override) -> BaseDistribution:
    """`interval(a,b)`, `tag(log,interval(a,b))`, `int(interval(a,b))`, `range(a,b)`, `x,y,z`."""
    values: Any = override.value()
    if isinstance(values, IntervalSweep):
        low, high, log = values.start, values.end, "log" in values.tags
        if low is None or high is None or low > high or (log and low <= 0):
            raise UserError(
                f"{override.input_line}: an interval goes from a lower to a higher value"
            )
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    texts = list(override.sweep_string_iterator())
    if isinstance(values, RangeSweep) and isinstance(values.start, int) and len(texts) > 1:
        numbers = sorted(map(int, texts))
        return IntDistribution(numbers[0], numbers[-1], step=numbers[1] - numbers[0])
    return CategoricalDistribution(texts)


def _as_word(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _validations(path: Path, name: str) -> list[tuple[int, float]]:
    """Step and figure of each validation so far; the last line may still be being written."""
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    rows = csv.DictReader(whole.splitlines())
    return [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
