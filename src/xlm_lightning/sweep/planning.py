"""From the words after `-m` to the jobs of a sweep, its folder and its table."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from xlm_lightning.compose import compose_job, compose_jobs, compose_sweep, parse_overrides
from xlm_lightning.errors import UserError
from xlm_lightning.legality import check_files
from xlm_lightning.monitor import BLEU, PERPLEXITY
from xlm_lightning.overrides import Command, Words, read_words
from xlm_lightning.run_id import run_id
from xlm_lightning.schema import Sweep, SweepPlan, Train
from xlm_lightning.sweep.folder import SweepFolder
from xlm_lightning.sweep.grid import Grid
from xlm_lightning.sweep.jobs import Job
from xlm_lightning.sweep.table import Table

if TYPE_CHECKING:
    from xlm_lightning.sweep.study import Study


def plan_sweep(
    command: Command, arguments: Sequence[str], *, trains: bool
) -> tuple[SweepPlan, Grid | Study, Table, SweepFolder | None]:
    """Check everything that can be checked before the first job starts."""
    words = read_words(command, arguments)
    plan = compose_sweep(words)
    words = read_words(command, [*arguments, *_parameters(plan.sweep, words)])
    own_folders = any(_key(word) == "run.dir" for word in words.overrides)
    if own_folders or not trains:
        sweep = plan.sweep
        if sweep.name is not None or sweep.method == "optuna" or plan.launcher is not None:
            raise UserError(
                "sweep.name, sweep.method=optuna and hydra/launcher=slurm need a folder of the "
                "sweep: they are for xlm-train without run.dir"
            )
        jobs = _grid_jobs(command, words, None)
        return plan, Grid(jobs), Table.of(jobs, None), None
    if plan.sweep.method == "optuna":
        return (plan, *_study(command, words, plan.sweep))
    folder = SweepFolder(plan.sweep.name or run_id())
    jobs = _grid_jobs(command, words, folder)
    folder.take({"jobs": [job.command for job in jobs]})
    table = Table.of(jobs, folder.table)
    left = [job for job in jobs if table.status(job.number) != "finished"]
    return plan, Grid(left), table, folder


def _parameters(sweep: Sweep, words: Words) -> list[str]:
    """The words of the chosen file of conf/sweep, but for keys that were typed."""
    typed = {_key(word) for word in words.overrides} | set(words.literals)
    return [f"{key}={value}" for key, value in sweep.parameters.items() if key not in typed]


def _grid_jobs(command: Command, words: Words, folder: SweepFolder | None) -> list[Job]:
    composed = compose_jobs(command, words)
    for _, config in composed:
        check_files(config)
    if folder is None and command.name == "train":
        folders = [config.run.dir for _, config in composed]
        if len(set(folders)) < len(folders):
            raise UserError(f"run.dir={folders[0]}: the jobs of a sweep need different folders")
    overrides = [own for own, _ in composed]
    return [
        _job(command, number, choice, own, words, folder)
        for number, (choice, own) in enumerate(zip(_chosen(overrides), overrides, strict=True))
    ]


def _study(command: Command, words: Words, sweep: Sweep) -> tuple[Study, Table, SweepFolder]:
    try:
        from xlm_lightning.sweep.study import Study, ends_of, space_of
    except ImportError as error:
        raise UserError(
            f"sweep.method=optuna needs optuna: pip install 'xlm-lightning[sweep]' ({error})"
        ) from error
    overrides = parse_overrides(command, words.overrides)
    space = space_of(overrides)
    if not space:
        raise UserError(
            "sweep.method=optuna has nothing to choose from: say for example "
            "optimizer.lr='tag(log,interval(1e-4,1e-2))'"
        )
    fixed = [
        override.input_line or "" for override in overrides if not override.is_sweep_override()
    ]
    folder = SweepFolder(sweep.name or run_id())

    def words_of(choice: Mapping[str, str]) -> list[str]:
        return [*fixed, *(f"{sign[key]}{key}={value}" for key, value in choice.items())]

    def accepted(choice: Mapping[str, str]) -> Train:
        config: Train = compose_job(command, words_of(choice), words)
        check_files(config)
        return config

    def job_of(number: int, choice: Mapping[str, str]) -> Job:
        complaint = None
        try:
            accepted(choice)
        except UserError as error:
            complaint = str(error)
        return _job(command, number, choice, words_of(choice), words, folder, complaint)

    sign = {
        override.key_or_group: "++" if (override.input_line or "").startswith("++") else ""
        for override in overrides
    }
    told = [word.lstrip("+") for word in [*words.overrides, *_literals(words)]]
    example = _example(accepted, {key: ends_of(values) for key, values in space.items()})
    folder.take({"words": told, "seed": sweep.seed})
    study = Study(
        folder.study,
        space,
        job_of,
        trials=sweep.trials,
        startup_trials=sweep.startup_trials,
        prune=sweep.prune,
        seed=sweep.seed,
        monitor=BLEU if example.translates else PERPLEXITY,
    )
    return study, Table.of([], folder.table), folder


def _example(
    accepted: Callable[[Mapping[str, str]], Train], space: Mapping[str, tuple[str, str]]
) -> Train:
    """The job of the first values of all keys, or else of the last ones; `UserError` where neither
    makes one."""
    first, last = ({key: values[end] for key, values in space.items()} for end in (0, 1))
    try:
        return accepted(first)
    except UserError as error:
        try:
            return accepted(last)
        except UserError:
            raise error from None


def _job(
    command: Command,
    number: int,
    choice: Mapping[str, str],
    overrides: Sequence[str],
    words: Words,
    folder: SweepFolder | None,
    complaint: str | None = None,
) -> Job:
    own = [word.lstrip("+") for word in [*overrides, *_literals(words)]]
    run = None if folder is None else folder.run(number)
    return Job(
        number=number,
        choice=choice,
        words=own if run is None else [*own, f"run.dir={run}"],
        command=shlex.join(
            [f"xlm-{command.name}", *(word for word in own if _key(word) != "run.dir")]
        ),
        folder=run,
        complaint=complaint,
    )


def _literals(words: Words) -> list[str]:
    return [f"{key}={value}" for key, value in words.literals.items()]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _chosen(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """For each job the values of the keys in which the jobs differ."""
    values = [{_key(word): word.partition("=")[2] for word in job} for job in jobs]
    differing = [key for key in values[0] if len({job[key] for job in values}) > 1]
    return [{key: job[key] for key in differing} for job in values]
