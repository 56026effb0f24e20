"""From words to checked configurations: Hydra composes, the schema judges.

Hydra's compose function is used and not `hydra.main`: nothing is instantiated, no folder and no log
file is made, every job of a sweep is checked before the first one starts, and errors reach us as
exceptions. `hydra.main` only serves `--help`, `--cfg`, `--info` and shell completion.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from xlm_lightning.config_files import config_folder
from xlm_lightning.errors import UserError, did_you_mean
from xlm_lightning.legality import check, check_shape, type_needed
from xlm_lightning.overrides import Command, Words, nearest_key, options_of
from xlm_lightning.run_id import run_id
from xlm_lightning.schema import CORPORA, Prepare, SweepPlan

VERSION_BASE = "1.3"
SWEEP = Command("sweep", SweepPlan)


def compose(command: Command, words: Words) -> list[Any]:
    """Return the accepted configurations, instances of the schema: one, or those of a sweep."""
    return [config for _, config in compose_jobs(command, words)]


def compose_jobs(command: Command, words: Words) -> list[tuple[list[str], Any]]:
    """Return overrides and accepted configuration of every job of a grid, or of the one job."""
    with _translated(), _initialised(command):
        jobs = [words.overrides]
        if words.options.multirun:
            overrides = _parse(words.overrides)
            _refuse_intervals(overrides)
            jobs = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
        return [(list(job), _accept(command, job, words.literals)) for job in jobs]


def compose_job(command: Command, overrides: Sequence[str], words: Words) -> Any:
    """Return the accepted configuration of one job of a sweep."""
    with _translated(), _initialised(command):
        return _accept(command, overrides, words.literals)


def compose_sweep(words: Words) -> SweepPlan:
    """Return what `-m` is to do with the jobs."""
    with _translated(), _initialised(SWEEP):
        plan: SweepPlan = _accept(SWEEP, words.sweep, {})
    return plan


def parse_overrides(command: Command, overrides: list[str]) -> list[Override]:
    """Return what Hydra reads in the words, without expanding what has several values."""
    with _translated(), _initialised(command):
        return _parse(overrides)


def show(command: Command, words: Words) -> None:
    """Let Hydra print the help, the configuration or the completion that was asked for."""
    if words.options.cfg:
        with _translated(), _initialised(command):
            _accept(command, words.overrides, words.literals, complete=False)
    options = [word for word in sys.argv[1:] if word not in words.options.overrides]
    program = hydra.main(
        version_base=VERSION_BASE, config_path=str(config_folder()), config_name=command.name
    )(_nothing)
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [sys.argv[0], *words.overrides, *options]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions to us, not a traceback and exit code 1
    try:
        with _translated():
            program()
    finally:
        sys.argv = before[0]
        os.environ.pop("HYDRA_FULL_ERROR")
        if before[1] is not None:
            os.environ["HYDRA_FULL_ERROR"] = before[1]


def _nothing(_: DictConfig) -> None: ...


def _initialised(command: Command) -> Any:
    return hydra.initialize_config_dir(
        str(config_folder()), version_base=VERSION_BASE, job_name=f"xlm-{command.name}"
    )


def _parse(overrides: list[str]) -> list[Override]:
    loader = GlobalHydra.instance().config_loader()  # for glob(*)
    parsed: list[Override] = OverridesParser.create(loader).parse_overrides(overrides)
    return parsed


def _refuse_intervals(overrides: Sequence[Override]) -> None:
    """Hydra says that its basic sweeper does not know them."""
    for override in overrides:
        if override.is_interval_sweep():
            word = (override.input_line or "").lstrip("+")
            raise UserError(
                f"{word}: an interval needs sweep.method=optuna; name values for a grid"
            )


def _accept(
    command: Command,
    overrides: Sequence[str],
    literals: Mapping[str, str | None],
    complete: bool = True,
) -> Any:
    """Compose one job and hold it against the schema; `complete`: every key needs a value."""
    composed = hydra.compose(command.name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(composed)  # ${hydra:...} is answered from here
    launcher = _launcher(composed) if command is SWEEP else {}
    with open_dict(composed):
        del composed["hydra"]
    raw: Any = OmegaConf.to_container(composed, resolve=True)
    raw.update(launcher)
    HydraConfig.instance().cfg = None  # else Lightning starts its children through Hydra
    raw.update(literals)
    try:
        merged = _typed(command.schema, raw)
    except OmegaConfBaseException as error:
        raise UserError(_type_complaint(error, command.schema, raw)) from error
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing and not complete:
        return None
    if missing:
        raise UserError(_missing_complaint(missing[0]))
    config: Any = OmegaConf.to_object(merged)
    check(config, raw)
    for key, complaint in config.conflicts():
        raise UserError(f"{key}: {complaint}")
    return config


def _launcher(composed: DictConfig) -> dict[str, Any]:
    """The chosen file of conf/hydra/launcher; None for Hydra's own default, this machine."""
    choice = composed.hydra.runtime.choices["hydra/launcher"]
    if choice == "basic":
        return {"launcher": None}
    if choice not in options_of("hydra/launcher"):
        offered = ", ".join(["basic", *options_of("hydra/launcher")])
        raise UserError(f"hydra/launcher={choice}: choose one of {offered}")
    return {"launcher": OmegaConf.to_container(composed.hydra.launcher, resolve=True)}


def _typed(schema: type, raw: Mapping[str, Any]) -> DictConfig:
    skeleton = OmegaConf.structured(schema)
    if schema is Prepare:
        corpus = _corpus_class(raw["corpus"])
        skeleton.corpus = OmegaConf.structured(corpus)
        check_shape(corpus, raw["corpus"], "corpus.")
    check_shape(schema, raw)
    merged = OmegaConf.merge(skeleton, raw)
    assert isinstance(merged, DictConfig)
    return merged


def _corpus_class(corpus: Any) -> type:
    name = corpus.get("name") if isinstance(corpus, dict) else None
    if name not in CORPORA:
        near = did_you_mean(str(name), CORPORA)
        raise UserError(f"corpus.name={name}: must be one of {', '.join(CORPORA)}.{near}")
    return CORPORA[name]


# --- complaints -----------------------------------------------------------------------------------
@contextmanager
def _translated() -> Iterator[None]:
    """Turn what Hydra, OmegaConf and PyYAML raise for a user's mistake into `UserError`."""
    try:
        yield
    except MissingConfigException as error:
        raise UserError(_option_complaint(error)) from error
    except HydraException as error:
        raise UserError(_hydra_complaint(error)) from error
    except OmegaConfBaseException as error:
        cause = error.__cause__
        reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", _first(error))
        told = str(cause) if isinstance(cause, UserError) else f"{error.full_key}: {reason}"
        raise UserError(told) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}: " if mark else ""
        raise UserError(f"{place}{error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = f"a YAML file of --config-dir is not UTF-8 text: {_first(error)}"
        raise UserError(told) from error
    except ValueError as error:  # of the line that says where a file's keys belong
        raise UserError(f"a YAML file of --config-dir: {_first(error)}") from error


def _missing_complaint(key: str) -> str:
    """Some keys come with a choice: `logger.wandb.*` with logger=wandb."""
    group, _, option = key.partition(".")
    option = option.partition(".")[0]
    choice = f", or choose {group}={option}" if option in options_of(group) else ""
    return f"{key} has no value: say {key}=...{choice}"


def _option_complaint(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    known = list(error.options or options_of(group))
    if not group or not known:
        return _first(error)
    return f"{group}={option}: choose one of {', '.join(known)}.{did_you_mean(option, known)}"


def _hydra_complaint(error: HydraException) -> str:
    lines = [line for line in str(error).replace("++", "").splitlines() if line.strip()]
    if lines[0].startswith("Ambiguous value for argument "):
        override = lines[0].removeprefix("Ambiguous value for argument ").strip("'")
        return (
            f"{override}: several values. Write [a,b] for a list, quote it for a text, "
            "or add -m to run once with each"
        )
    override = str(getattr(error, "override", "")).removeprefix("++")
    if override:
        reason = next((line for line in lines if " at " in line or "input" in line), lines[0])
        return f"{override!r} cannot be read ({reason}); quote values with special characters"
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return f"{cause.full_key}: {_first(cause)}"
    return " ".join(lines[:2])


def _type_complaint(error: OmegaConfBaseException, schema: type, raw: Mapping[str, Any]) -> str:
    key = str(error.full_key or "")
    if schema is Prepare and key.startswith("corpus."):
        corpus = _corpus_class(raw["corpus"])
        schema, prefix = corpus, "corpus."
    else:
        prefix = ""
    if isinstance(error, ConfigKeyError):
        if not isinstance(raw.get(key), str) and options_of(key):
            return f"{key}: the chosen file lacks its first line, '# @package _global_'"
        whole = _longest(key, raw)
        near = nearest_key(whole, schema, prefix) or nearest_key(key, schema, prefix)
        key = whole
        return f"unknown key {key!r}." + (f" Did you mean {near!r}?" if near else "")
    value: Any = raw
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else value
    needed = type_needed(key, schema, prefix)
    if isinstance(error, ValidationError) and needed:
        return f"{key}={'null' if value is None else value}: must be {needed}"
    return f"{key}={value}: {_first(error)}"


def _longest(key: str, raw: Mapping[str, Any]) -> str:
    """Extend an unknown folder to the key below it: `modle` to `modle.layers` if that was meant."""
    value: Any = raw
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None  # a key may hold a dot
    while isinstance(value, Mapping) and len(value) == 1:
        (part,) = value
        key, value = f"{key}.{part}", value[part]
    return key


def _first(error: BaseException) -> str:
    return str(error).splitlines()[0]


OmegaConf.register_new_resolver("run_id", run_id, replace=True)
