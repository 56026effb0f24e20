"""`manifest.json`: what a prepared folder holds, down to the bytes and hash of every shard.

The manifest is written last, so a folder that has one is complete. Sizes of shards, and hashes of
codes and vocabulary, are checked at every start; all hashes and id ranges by `xlm-prepare
verify=DIR`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from xlm_lightning.atomic import write_json
from xlm_lightning.errors import UserError

FORMAT_VERSION = 1
BLOCK_LENGTH = 256  # tokens; every shard file is a whole number of blocks (512 bytes each)
TOKEN_BYTES = 2  # uint16, little endian
MANIFEST_NAME = "manifest.json"
REPAIR = "restore the file or prepare the corpus again"


@dataclass(frozen=True)
class Shard:
    """One file of token ids, and the documents' end offsets beside it (`NAME.docs.npy`)."""

    name: str  # relative to the prepared folder: train/de-00000.bin
    bytes: int
    tokens: int  # real tokens; valid and test files are padded with <pad> to a whole block
    lines: int
    documents: int
    unknown: int  # tokens that became <unk>
    dropped_tail: int  # train only: tokens after the last whole block, not written
    raw_bytes: int  # of the text, newlines included
    sha256: str
    docs_sha256: str

    @property
    def docs_name(self) -> str:
        """File of the documents' end offsets (uint64, in tokens), relative to the folder."""
        return self.name.removesuffix(".bin") + ".docs.npy"


@dataclass(frozen=True)
class Manifest:
    """Everything about a prepared folder that training, evaluation and verification rely on."""

    vocab_size: int
    vocab_sha256: str
    codes_sha256: str
    text: dict[str, Any]  # mode, lowercase_and_remove_accent, versions of the tools
    splits: dict[str, dict[str, list[Shard]]]  # split -> language -> shards in order
    parallel: dict[str, dict[str, dict[str, list[Shard]]]] = field(default_factory=dict)
    """split -> pair (`de-en`) -> language -> shards whose documents are lines: line k of one
    language translates line k of the other."""
    corpus: dict[str, Any] = field(default_factory=dict)  # facts about the source
    limit: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """split -> language -> {nll_nats, perplexity}: the true entropy of the whole text (the dropped
    tails of train included), where it is known."""
    anomalies: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """split -> language -> what was odd in the text (control characters, invalid UTF-8, ...)."""
    special_ids: dict[str, int] = field(default_factory=dict)
    """<s>, </s>, <pad>, ... -> id; empty in a folder from before they were recorded."""
    dtype: str = "uint16"
    byte_order: str = "little"
    block_length: int = BLOCK_LENGTH
    format_version: int = FORMAT_VERSION

    @property
    def languages(self) -> list[str]:
        """All languages of the train split in alphabetical order: the index is the language id."""
        return sorted(self.splits["train"])

    def shards(self) -> Iterator[Shard]:
        """All shards of all splits and languages."""
        for languages in self.splits.values():
            for shards in languages.values():
                yield from shards
        for pairs in self.parallel.values():
            for sides in pairs.values():
                for shards in sides.values():
                    yield from shards

    def read_files(self, split: str, *, parallel: bool) -> list[str]:
        """Names of all files that are read of a split's texts, or of its parallel text."""
        if not parallel:
            return [shard.name for shards in self.splits[split].values() for shard in shards]
        pairs = self.parallel.get(split, {}).values()
        shards = [shard for sides in pairs for side in sides.values() for shard in side]
        return [name for shard in shards for name in (shard.name, shard.docs_name)]

    def total(self, split: str, language: str, what: str) -> int:
        """Sum a count of `Shard` (`tokens`, `lines`, `raw_bytes`, ...) over a language's shards."""
        return sum(getattr(shard, what) for shard in self.splits[split][language])

    def bytes_per_token(self, split: str) -> dict[str, float]:
        """Raw bytes of text for one token, newlines included, of each language of a split."""
        return {
            language: self.total(split, language, "raw_bytes")
            / max(1, self.total(split, language, "tokens"))
            for language in self.splits[split]
        }

    def save(self, folder: Path) -> None:
        """Write `folder/manifest.json` atomically; the last file of a preparation."""
        write_json(folder / MANIFEST_NAME, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read and check `folder/manifest.json`, its codes and vocabulary, and all shards' sizes.

        Raises `UserError` that names the folder or file when one is absent, damaged, truncated or
        of another format version.
        """
        path = folder / MANIFEST_NAME
        if not path.is_file():
            raise UserError(
                f"{folder} is not a prepared folder (no {MANIFEST_NAME}); "
                f"make one with: xlm-prepare corpus=text ... out={folder}"
            )
        manifest = cls.parse(path.read_bytes(), str(path))
        check_hash(folder / "codes", manifest.codes_sha256)
        check_hash(folder / "vocab", manifest.vocab_sha256)
        for shard in manifest.shards():
            _check_size(folder / shard.name, shard.bytes)
        return manifest

    @classmethod
    def parse(cls, content: bytes, path: str) -> Manifest:
        """Read the content of the file `path`; `UserError` as `load`, but no file is looked at."""
        try:
            raw = json.loads(content)
            version = raw["format_version"]
            if version != FORMAT_VERSION:
                raise UserError(
                    f"{path} has format version {version}, this program reads {FORMAT_VERSION}; "
                    "prepare the corpus again"
                )
            raw["splits"] = {
                split: _shards_of(languages) for split, languages in raw["splits"].items()
            }
            raw["parallel"] = {
                split: {pair: _shards_of(sides) for pair, sides in pairs.items()}
                for split, pairs in raw.get("parallel", {}).items()
            }
            manifest = cls(**raw)
            manifest._check()
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise UserError(f"{path} is damaged ({reason}); {REPAIR}") from error

    def _check(self) -> None:
        """Raise `ValueError` for what no preparation has written."""
        for name in ("dtype", "byte_order", "block_length"):
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{name} is {getattr(self, name)!r}")
        if type(self.vocab_size) is not int or self.vocab_size < 1:
            raise ValueError(f"vocab_size is {self.vocab_size!r}")
        if type(self.text["mode"]) is not str:
            raise ValueError(f"text.mode is {self.text['mode']!r}")
        if type(self.text["lowercase_and_remove_accent"]) is not bool:
            raise ValueError("text.lowercase_and_remove_accent is not true or false")
        sides = [side for pairs in self.parallel.values() for side in pairs.values()]
        for shards_of in (self.splits["train"], *self.splits.values(), *sides):
            if not (shards_of and all(shards_of.values())):
                raise ValueError("a language has no shards")
        for shard in self.shards():
            _check_fields(shard)


def _shards_of(languages: dict[str, Any]) -> dict[str, list[Shard]]:
    return {
        language: [Shard(**shard) for shard in shards] for language, shards in languages.items()
    }


_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*\.bin").fullmatch  # in the folder, and nowhere else
_FIELDS = {field.name: {"str": str, "int": int}[str(field.type)] for field in fields(Shard)}


def _check_fields(shard: Shard) -> None:
    for name, kind in _FIELDS.items():
        value = getattr(shard, name)
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise ValueError(f"{name} of {shard.name} is {value!r}")
    if shard.tokens * TOKEN_BYTES > shard.bytes:
        raise ValueError(f"{shard.name} has {shard.tokens} tokens in {shard.bytes} bytes")
    if not _NAME(shard.name):
        raise ValueError(f"{shard.name!r} is no name of a shard")


def manifest_sha256(folder: Path) -> str:
    """Hash of the manifest file: the identity of a prepared folder, kept in every checkpoint."""
    return hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()


def _check_size(path: Path, expected_bytes: int) -> None:
    actual = path.stat().st_size if path.is_file() else None
    if actual == expected_bytes:
        return
    state = "is missing" if actual is None else f"has {actual} bytes instead of {expected_bytes}"
    raise UserError(f"{path} {state}; {REPAIR}")


def check_hash(path: Path, expected: str) -> None:
    """Raise `UserError` unless a file is the one that the manifest beside it means."""
    if not path.is_file():
        raise UserError(f"{path} is missing; {REPAIR}")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise UserError(f"{path} is damaged (its hash is not the one in {MANIFEST_NAME}); {REPAIR}")
