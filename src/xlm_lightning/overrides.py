"""The words of the command line, sorted and made ready for Hydra.

`key=value` becomes `++key=value`, so that the schema and not Hydra says what is unknown and so that
`corpus.train.ro=FILE` needs no plus sign; paths and free text are quoted, so that Hydra's grammar
leaves their commas, brackets and equal signs alone.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml
from hydra._internal.utils import get_args_parser

from xlm_lightning import __version__
from xlm_lightning.config_files import config_folder
from xlm_lightning.errors import UserError, did_you_mean
from xlm_lightning.legality import Verbatim, fields

_QUOTED = re.compile(r"""'([^'\\]|\\.)*'|"([^"\\]|\\.)*\"""", re.DOTALL)
_NO_NAME = re.compile(r"null|true|false|[\d.+-]*")  # what Hydra refuses to take for an option
_SWEEP, _LAUNCHER = "sweep", "hydra/launcher"  # groups of every command, with -m
_NOT_OFFERED = ("config_path", "config_name", "experimental_rerun")


@dataclass(frozen=True)
class Command:
    """One entry file of `conf/` and what it may say."""

    name: str  # conf/NAME.yaml, xlm-NAME
    schema: type

    @property
    def groups(self) -> set[str]:
        """The folders of `conf/` that this command's entry file chooses from."""
        entry = yaml.safe_load((config_folder() / f"{self.name}.yaml").read_text("utf-8"))
        names = {next(iter(item)) for item in entry["defaults"] if isinstance(item, dict)}
        return {name for name in names if " " not in name}


@dataclass(frozen=True)
class Words:
    """The command line, sorted."""

    options: argparse.Namespace
    overrides: list[str]  # for Hydra
    literals: dict[str, str | None]  # keys that bear the name of a folder that is no group here
    sweep: list[str]  # what `-m` is to do with the jobs, for Hydra

    @property
    def shows(self) -> bool:
        """Whether something is to be printed instead of run."""
        asked = self.options
        return bool(
            asked.help or asked.hydra_help or asked.cfg or asked.info or asked.shell_completion
        )


def read_words(command: Command, arguments: Sequence[str]) -> Words:
    """Sort the command line; what cannot be read is the user's mistake."""
    options = _read_options(command, arguments)
    overrides: list[str] = []
    literals: dict[str, str | None] = {}
    folders = {path.name for path in config_folder().iterdir() if path.is_dir()}
    groups = command.groups
    verbatim = _verbatim_keys(command) if not options.multirun else set()
    if options.shell_completion:  # install=bash and the like
        return Words(options, list(options.overrides), {}, [])
    sweep: list[str] = []
    for given in options.overrides:
        word, key, value = _split(given, groups | {_SWEEP, _LAUNCHER})
        if _is_for_sweeps(word):
            if not options.multirun:
                raise UserError(f"{given}: is for sweeps; add -m")
            sweep.append(word if key in (_SWEEP, _LAUNCHER, None) else f"++{word}")
            continue
        if key is not None and key.startswith(("hydra.run.", "hydra.sweep.", "hydra.job.")):
            raise UserError(f"{key}: folders are this program's business; say run.dir=DIR")
        if key is None or key in groups or key.startswith("hydra."):
            overrides.append(word)
        elif key in folders:
            literals[key] = None if value == "null" else value
        elif key in verbatim or (key.startswith("corpus.") and not options.multirun):
            is_list = key.startswith("corpus.") and value.startswith("[")
            overrides.append(f"++{key}={value if is_list else quoted(value)}")
        else:
            overrides.append(f"++{key}={value}")
    if options.config_dir is not None:
        search = f"hydra.searchpath=[{quoted(_folder_address(options.config_dir))}]"
        overrides.append(search)
        sweep.append(search)
    return Words(options, overrides, literals, sweep)


def _is_for_sweeps(word: str) -> bool:
    key = _parts(word)[1]
    return key in (_SWEEP, _LAUNCHER) or key.startswith((f"{_SWEEP}.", "hydra.launcher."))


def options_of(group: str) -> list[str]:
    """Return the names to choose from in `conf/group`, in alphabetical order."""
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))


def nearest_key(wrong: str, schema: type, prefix: str = "") -> str:
    """Return the key of `schema` that `wrong` most probably means, or the empty string.

    A whole last word beats resemblance: `lr` is `optimizer.lr`, whatever stands in front.
    """
    keys = [field.key for field in fields(schema, prefix)]
    last = wrong.rpartition(".")[2]
    same_word = [key for key in keys if key.rpartition(".")[2] == last]
    candidates = same_word or keys

    def resemblance(key: str) -> float:
        whole = difflib.SequenceMatcher(None, wrong, key).ratio()
        word = difflib.SequenceMatcher(None, last, key.rpartition(".")[2]).ratio()
        deeper = abs(key.count(".") - wrong.count(".")) / 20
        return max(whole, word) + whole / 10 + key.rpartition(".")[2].startswith(last) / 5 - deeper

    best = max(candidates, key=resemblance)
    return best if resemblance(best) >= 0.65 else ""


def quoted(value: str) -> str:
    """Return `value` so that Hydra's grammar reads the same text; what is quoted already stays."""
    if value in ("", "null", "???") or "${" in value or _QUOTED.fullmatch(value):
        return value
    if value.startswith("~/"):  # the shell expands it only at the start of a word
        value = str(Path(value).expanduser())
    if re.fullmatch(r"[\w./\-]+", value):
        return value
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"


def _read_options(command: Command, arguments: Sequence[str]) -> argparse.Namespace:
    parser = get_args_parser()

    def complain(message: str) -> NoReturn:
        raise UserError(f"{message}; see xlm-{command.name} --help")

    parser.error = complain  # type: ignore[method-assign]
    if "--version" in arguments:
        print(f"xlm-lightning {__version__}")
        sys.exit(0)
    options, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        raise UserError(_option_complaint(command, unknown[0], list(parser._option_string_actions)))
    if (options.package or options.resolve) and not options.cfg:
        raise UserError("--package and --resolve go with --cfg, as in --cfg job --package model")
    for name in _NOT_OFFERED:
        if getattr(options, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option} is not offered; --config-dir adds a folder of your own")
    return options


def _option_complaint(command: Command, option: str, known: Sequence[str]) -> str:
    """Other programs write `--max-steps 3` for what is `trainer.max_steps=3` here."""
    name, equals, value = option.lstrip("-").partition("=")
    key = nearest_key(name.replace("-", "_"), command.schema)
    if equals or (key and not difflib.get_close_matches(option, known, cutoff=0.8)):
        return f"{option}: no dashes here, write {key or name}={value or '...'}"
    return f"unknown option {option}.{did_you_mean(option, known)} See xlm-{command.name} --help"


def _split(word: str, groups: set[str]) -> tuple[str, str | None, str]:
    """Return word, key and value of `key=value`; key None for what is Hydra's business alone."""
    if "_target_" in word:
        raise UserError(f"{word}: a configuration cannot name Python code")
    sign, key, equals, value = _parts(word)
    if sign == "+" and key in groups:  # Hydra would have two choices then
        sign, word = "", word[1:]
    if not key.strip() or key != key.strip() or not (equals or sign == "~"):
        raise UserError(f"{word!r} cannot be read: overrides are written key=value, without spaces")
    if key in groups and sign != "~" and _NO_NAME.fullmatch(value):
        raise UserError(f"{word}: choose one of {', '.join(options_of(key))}")
    plain = not sign and re.fullmatch(r"[A-Za-z_][\w.\-]*", key)
    return word, (key if plain else None), value


def _parts(word: str) -> tuple[str, str, str, str]:
    head, equals, value = word.partition("=")
    key = head.lstrip("+~")
    return head[: len(head) - len(key)], key, equals, value


def _verbatim_keys(command: Command) -> set[str]:
    return {
        field.key
        for field in fields(command.schema)
        if any(isinstance(rule, Verbatim) for rule in field.rules)
    }


def _folder_address(folder: str) -> str:
    if not Path(folder).is_dir():
        raise UserError(f"--config-dir {folder}: no such folder")
    return f"file://{Path(folder).absolute()}"
