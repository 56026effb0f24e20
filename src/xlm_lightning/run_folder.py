"""What a run leaves behind beside its checkpoints, so that it explains and feeds itself."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xlm_lightning.atomic import atomic_write, remove_leftovers, write_json, write_text
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.recall import OVERRIDES
from xlm_lightning.text.text_model import TextModel


@dataclass(frozen=True)
class RunFolder:
    """Names of the files of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples.md"

    @property
    def translations(self) -> Path:
        return self.path / "translations"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def text_folder(self) -> Path:
        return self.path / "text"

    def write_config(self, config: Mapping[str, Any], command: Sequence[str]) -> None:
        """Write the whole configuration and the overrides that made it."""
        write_text(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
        write_text(self.path / OVERRIDES, yaml.safe_dump(list(command[1:])))

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        write_json(self.path / "provenance.json", provenance)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_json(self.summary, summary)

    def write_words(self, words: Mapping[str, Any]) -> None:
        """Write the places of frequent words, see `word_map`."""
        write_json(self.path / "words.json", words)

    def write_evaluation(self, suite: str, result: Mapping[str, Any]) -> None:
        """Keep what a suite of `xlm-evaluate` has found: `evaluations/SUITE.json`."""
        write_json(self.path / "evaluations" / f"{suite}.json", result)

    def copy_text_model(self, data_folder: Path, manifest: Manifest) -> None:
        """Keep codes, vocabulary and text options: the run reads and writes text by itself."""
        for name in ("codes", "vocab"):
            with (
                (data_folder / name).open("rb") as source,
                atomic_write(self.text_folder / name) as copy,
            ):
                shutil.copyfileobj(source, copy)
        write_json(self.text_folder / "text.json", _text_options(manifest))

    def text_model(self, vocab_size: int) -> TextModel:
        """Return the run's own copy of its text model, which must have `vocab_size` ids."""
        path = self.text_folder / "text.json"
        if not path.is_file():
            raise UserError(f"{path} is missing: a checkpoint needs its run folder to read text")
        try:
            options = json.loads(path.read_bytes())
            return TextModel.load(self.text_folder, vocab_size=vocab_size, **options)
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}); restore it from a copy") from error

    def data_dir(self) -> str | None:
        """Return the prepared folder that the run was trained on, None without its config.yaml."""
        config = self.config()
        data = {} if config is None else config.get("data", {})
        return None if "dir" not in data else str(data["dir"])

    def sentence_tokens(self) -> int | None:
        """Return how many tokens of sentences made a batch, None where that is not told."""
        found = (self.config() or {}).get("data", {}).get("sentence_tokens")
        return None if found is None else int(found)

    def config(self) -> dict[str, Any] | None:
        """Return the configuration of the run's last start, None without one."""
        path = self.path / "config.yaml"
        if not path.is_file():
            return None
        try:
            config = yaml.safe_load(path.read_bytes())
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path} is damaged ({reason}); restore or remove it") from error
        if not isinstance(config, dict):
            raise UserError(f"{path} holds no keys; restore or remove it")
        return config

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training in this folder; what killed ones left is removed.

        The lock belongs to the process alone (not to its children) and ends with it. Raises
        `UserError` where another process has it, and where the folder cannot be written.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            held = (self.path / ".lock").open("a+b")
        except OSError as error:
            raise UserError(
                f"run.dir={self.path}: {error.filename} cannot be written ({error.strerror}); "
                "choose another run.dir"
            ) from error
        with held as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise UserError(
                    f"run.dir={self.path}: another process is training in it; wait for it, or "
                    "choose another run.dir"
                ) from error
            remove_leftovers(self.path)
            for sha256 in self.checkpoints.glob("*.sha256"):
                if not sha256.with_suffix("").exists():  # killed between a file and its hash
                    sha256.unlink()
            yield

    def require_room(self, checkpoint_bytes: int) -> None:
        """Raise `UserError` where not even two checkpoints fit: the newest, and the one before."""
        free = shutil.disk_usage(self.path).free
        there = sum(file.stat().st_size for file in self.checkpoints.glob("step-*.ckpt"))
        if free + there < 2 * checkpoint_bytes:
            raise UserError(
                f"run.dir={self.path}: {free / 1e6:,.1f} MB are free, two checkpoints take "
                f"{2 * checkpoint_bytes / 1e6:,.1f}; make room, or choose another run.dir"
            )


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, empty where there is no such file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); restore or remove it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (no object); restore or remove it")
    return content


def prepared_text_model(folder: Path, manifest: Manifest) -> TextModel:
    """Return the text model of a prepared folder."""
    return TextModel.load(folder, vocab_size=manifest.vocab_size, **_text_options(manifest))


def _text_options(manifest: Manifest) -> dict[str, Any]:
    return {
        "mode": manifest.text["mode"],
        "lowercase_and_remove_accent": manifest.text["lowercase_and_remove_accent"],
        "languages": manifest.languages,
    }
