"""The files of a corpus, checked before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from data_prep.progress import note
from data_prep.reading import check_readable
from xlm_lightning.errors import UserError, did_you_mean
from xlm_lightning.text.rules import Mode, check_language

SPLITS = ("train", "valid", "test")
# split -> language -> files, in the order of work. A language is also one side of parallel text:
# `de-en.de`, whose line k translates line k of `de-en.en`.
Inputs = dict[str, dict[str, list[Path]]]


def pair_of(language: str) -> str:
    """`de-en` of `de-en.de`; empty for a language of its own."""
    return language.rpartition(".")[0]


def rules_of(language: str) -> str:
    """The language whose rules the text of `de-en.de` follows."""
    return language.rpartition(".")[2]


def key_of(split: str, language: str) -> str:
    """The configuration key that gave these files."""
    pair = pair_of(language)
    return f"corpus.parallel.{pair}.{split}" if pair else f"corpus.{split}.{language}"


def check_files(files: Mapping[str, Mapping[str, Sequence[Path]]], mode: Mode) -> Inputs:
    """The same files in the order of work; raises `UserError` that names the first bad one."""
    for split in files:
        if split not in SPLITS:
            raise UserError(
                f"corpus.{split} is no split ({', '.join(SPLITS)})." + did_you_mean(split, SPLITS)
            )
    if not files.get("train"):
        raise UserError("no train text: give corpus.train.LANGUAGE=FILE for at least one language")
    trained = sorted(name for name in files["train"] if not pair_of(name))
    check_languages("corpus.train", trained, mode)
    for split, languages in files.items():
        for language, paths in languages.items():
            _check_trained(split, language, trained)
            _check_paths(key_of(split, language), paths)
    _tell_shared_files(files)
    return {
        split: {language: list(files[split][language]) for language in sorted(files[split])}
        for split in SPLITS
        if files.get(split)
    }


def check_languages(key: str, languages: Collection[str], mode: Mode) -> None:
    """Raise `UserError` for none at all, and for one that has no rules in this mode."""
    if not languages:
        raise UserError(f"{key} is empty; give at least one language, as [de,en]")
    for language in languages:
        check_language(language, mode)


def stored_bytes(inputs: Mapping[str, Mapping[str, Sequence[Path]]]) -> int:
    """Size on disk of all files."""
    return sum(
        path.stat().st_size
        for languages in inputs.values()
        for paths in languages.values()
        for path in paths
    )


def _check_trained(split: str, language: str, trained: Sequence[str]) -> None:
    if rules_of(language) not in trained:
        raise UserError(
            f"{key_of(split, language)}: there is no train text of {rules_of(language)!r}, only "
            f"of {', '.join(trained)}.{did_you_mean(rules_of(language), trained)}"
        )


def _check_paths(key: str, paths: Sequence[Path]) -> None:
    if not paths:
        raise UserError(f"{key} names no file")
    seen: dict[Path, Path] = {}
    for path in paths:
        check_readable(path, key)
        resolved = path.resolve()
        if resolved in seen:
            raise UserError(f"{key} names {path} twice; each file is read once")
        seen[resolved] = path


def _tell_shared_files(files: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
    """The same file under two keys is rarely meant, but right in a test of overfitting."""
    first_key: dict[Path, str] = {}
    for split, languages in files.items():
        for language, paths in languages.items():
            for path in paths:
                key = key_of(split, language)
                other = first_key.setdefault(path.resolve(), key)
                if other != key:
                    note(f"warning: {path} is given both as {other} and as {key}")
