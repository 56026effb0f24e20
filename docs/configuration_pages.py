"""The pages of docs/configuration: every key that a command takes, read from conf/ and the schema.

docs/conf.py has them written before Sphinx looks for pages. A key's default and meaning stand in
the YAML file that sets it, its type and range in the schema; nothing is written here by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from xlm_lightning import cli, compose
from xlm_lightning.config_files import config_folder
from xlm_lightning.legality import Field, Verbatim, fields
from xlm_lightning.overrides import Command, options_of
from xlm_lightning.schema import CORPORA, Slurm

COMMANDS = [found for found in vars(cli).values() if isinstance(found, Command)]
RECIPES = ("experiment", "debug", "sweep")  # groups whose files are read as a whole
INTRODUCTION = """\
# Configuration

Every key of every command: what may stand there, what stands there by itself, what it means.
Written from `conf/` and the schema when these pages are built. `xlm-train --help` shows what is
used most, `xlm-train --cfg job` the values that a command line comes to.

Defaults are those of a group's first option. `xlm-train` runs `experiment=sample` where no other
one is named, and an [experiment](experiment.md) chooses options and sets keys itself.
"""
LAUNCHER = """\
# launcher

Who runs the jobs of a sweep: `hydra/launcher=slurm` hands them to SLURM ([how](../sweeps.md)).
Without it they are processes of this machine.
"""


@dataclass(frozen=True)
class Setting:
    """A key in a YAML file."""

    value: str  # as it is written
    comment: str  # behind it on its line


Settings = dict[str, Setting]


def write_pages(folder: Path) -> None:
    """Make `folder` hold all pages and no other; those that would not change are not written."""
    folder.mkdir(exist_ok=True)
    written = {folder / f"{name}.md": text for name, text in pages().items()}
    for page in {*folder.glob("*.md")} - written.keys():
        page.unlink()
    for page, text in written.items():
        if not page.is_file() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def pages() -> dict[str, str]:
    """Name -> Markdown of each page."""
    written = {"index": INTRODUCTION + "\n## Commands\n\n| command | groups |\n|---|---|\n"}
    for command in COMMANDS:
        groups = ", ".join(f"[{group}]({group}.md)" for group in _chosen(command))
        written["index"] += f"| [xlm-{command.name}]({command.name}.md) | {groups or 'none'} |\n"
        written[command.name] = _command_page(command)
        for group, default in _chosen(command).items():
            written[group] = _group_page(command, group, default)
    written["index"] += "| `-m` with any of them | [sweep](sweep.md), [launcher](launcher.md) |\n"
    written["sweep"] = _group_page(compose.SWEEP, "sweep", _chosen(compose.SWEEP)["sweep"])
    written["launcher"] = _launcher_page()
    toctree = "\n".join(name for name in written if name != "index")
    written["index"] += f"\n```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    return written


# --- pages ----------------------------------------------------------------------------------------
def _command_page(command: Command) -> str:
    entry = config_folder() / f"{command.name}.yaml"
    groups = _chosen(command)
    own = [field for field in _leaves(command.schema) if _root(field) not in groups]
    rows = [
        f"| [{group}]({group}.md) | `{default.value}` | {_escaped(default.comment)} |"
        for group, default in groups.items()
    ]
    chosen = ["## Groups", "", "| group | default | |", "|---|---|---|", *rows, ""] if rows else []
    lines = [f"# xlm-{command.name}", "", _first_comment(entry), "", *chosen]
    return "\n".join([*lines, "## Keys", "", *_table(own, [_settings(entry)])]) + "\n"


def _group_page(command: Command, group: str, default: Setting) -> str:
    lines = [f"# {group}", ""]
    about = _escaped(default.comment)
    lines += [f"{about[0].upper()}{about[1:]}.", ""] if about else []
    user = "`-m`, with any command" if command is compose.SWEEP else f"`xlm-{command.name}`"
    chosen = "none" if default.value == "null" else f"`{group}={default.value}`"
    by_experiment = command is cli.TRAIN and group != "experiment"
    unless = "Where the experiment chooses none" if by_experiment else "By itself"
    lines += [f"A group of {user}. {unless}: {chosen}.", ""]
    names = options_of(group)
    if default.value in names:
        names = [default.value, *(name for name in names if name != default.value)]
    known = [*_chain(group, names[0]), _settings(config_folder() / f"{command.name}.yaml")]
    known += [_settings(_file(group, name)) for name in names]
    if group == "corpus":
        for name, corpus in CORPORA.items():
            rows = _table(_leaves(corpus, "corpus."), _chain(group, name))
            lines += [f"## corpus={name}", "", _first_comment(_file(group, name)), "", *rows]
    else:
        own = [field for field in _leaves(command.schema) if _root(field) == group]
        lines += ["## Keys", "", *_table(own, known)] if own else []
    return "\n".join([*lines, "## Options", "", *_options(group, names)]) + "\n"


def _launcher_page() -> str:
    rows = _table(_leaves(Slurm, "hydra.launcher."), [_settings(_file("hydra/launcher", "slurm"))])
    return "\n".join([LAUNCHER, *rows])


def _options(group: str, names: list[str]) -> Iterator[str]:
    """A table, or for recipes the files themselves."""
    if group not in RECIPES:
        yield from ("| option | | sets |", "|---|---|---|")
    for name in names:
        file, told = _file(group, name), _first_comment(_file(group, name))
        if group in RECIPES:
            yield from (f"### {group}={name}", "", told, "")
            yield from ("```yaml", file.read_text("utf-8").strip(), "```", "")
        else:
            own = _settings(file).items() if name != names[0] else ()
            changes = ", ".join(f"`{key}={setting.value}`" for key, setting in own)
            yield f"| `{group}={name}` | {told} | {changes} |"


def _table(shown: list[Field], known: list[Settings]) -> Iterator[str]:
    """Rows of keys; the first of `known` that sets a key tells its default and its meaning."""
    yield from ("| key | value | default | meaning |", "|---|---|---|---|")
    for field in shown:
        told = [settings[field.key] for settings in known if field.key in settings]
        default = f"`{told[0].value}`" if told and told[0].value != "???" else "none"
        meaning = next((setting.comment for setting in told if setting.comment), "")
        yield f"| `{field.key}` | {_allowed(field)} | {default} | {_escaped(meaning)} |"
    yield ""


def _allowed(field: Field) -> str:
    rules = [str(rule) for rule in field.rules if not isinstance(rule, Verbatim)]
    return _escaped(", ".join([field.kinds_in_words or "see beside", *rules]))


def _root(field: Field) -> str:
    return field.key.partition(".")[0]


def _leaves(schema: type, prefix: str = "") -> list[Field]:
    return [field for field in fields(schema, prefix) if field.folder is None]


# --- what stands in conf/ -------------------------------------------------------------------------
def _file(group: str, option: str) -> Path:
    return config_folder() / group / f"{option}.yaml"


def _chain(group: str, option: str) -> list[Settings]:
    """An option's own settings, then those of the options it is made from."""
    content = yaml.safe_load(_file(group, option).read_text("utf-8"))
    bases = [base for base in content.get("defaults", []) if isinstance(base, str)]
    below = [settings for base in bases if base != "_self_" for settings in _chain(group, base)]
    return [_settings(_file(group, option)), *below]


def _chosen(command: Command) -> Settings:
    """Group -> its default option, in the order of the command's file."""
    text = (config_folder() / f"{command.name}.yaml").read_text("utf-8")
    (defaults,) = [value for key, value in _root_of(text).value if key.value == "defaults"]
    pairs = [item.value[0] for item in defaults.value if isinstance(item, yaml.MappingNode)]
    return {key.value: _setting(value, text) for key, value in pairs if key.value in command.groups}


def _settings(file: Path) -> Settings:
    """Dotted key, from the root of the configuration -> what the file says of it."""
    text = file.read_text("utf-8")
    place = file.parent.relative_to(config_folder()).parts
    is_global = not place or text.startswith("# @package _global_")
    found = dict(_walk(_root_of(text), text, "" if is_global else ".".join(place) + "."))
    return {key: setting for key, setting in found.items() if not key.endswith("defaults")}


def _root_of(text: str) -> yaml.MappingNode:
    node = yaml.compose(text)
    assert isinstance(node, yaml.MappingNode)
    return node


def _walk(node: yaml.MappingNode, text: str, prefix: str) -> Iterator[tuple[str, Setting]]:
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _walk(value, text, f"{prefix}{key.value}.")
        else:
            yield f"{prefix}{key.value}", _setting(value, text)


def _setting(value: yaml.Node, text: str) -> Setting:
    end = value.end_mark.index
    behind = text[end:].partition("\n")[0]
    return Setting(text[value.start_mark.index : end], behind.partition("#")[2].strip())


def _first_comment(file: Path) -> str:
    """The first line of words at the top of a file; empty where it begins with keys."""
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            return _escaped(line.lstrip("# "))
    return ""


def _escaped(text: str) -> str:
    """Plain text for a cell of a Markdown table; `code` stays."""
    return re.sub(r"([\\|*_<>\[\]])", r"\\\1", text)
