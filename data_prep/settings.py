"""What decides the bytes of a prepared folder, besides the text itself."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from data_prep.lines import TextPolicy
from data_prep.reading import sha256_of
from xlm_lightning import __version__
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import FORMAT_VERSION
from xlm_lightning.text.bpe import read_codes
from xlm_lightning.text.rules import Mode
from xlm_lightning.text.vocabulary import Vocabulary

BYTES_PER_MEGABYTE = 1_000_000
TOOL_VERSIONS = {"xlm_lightning": __version__, "sacremoses": version("sacremoses")}


@dataclass(frozen=True)
class GivenTextModel:
    """BPE codes and vocabulary to reuse, instead of learning them."""

    codes: Path
    vocabulary: Path


@dataclass(frozen=True)
class Settings:
    """The configuration of a preparation; `workers` is no part of it."""

    mode: Mode
    lowercase_and_remove_accent: bool
    policy: TextPolicy
    shard_megabytes: float
    merges: int | None
    given: GivenTextModel | None

    @property
    def piece_bytes(self) -> int:
        """Raw text of one shard."""
        return round(self.shard_megabytes * BYTES_PER_MEGABYTE)

    def described(self) -> dict[str, str | int | float | bool]:
        """Under the names of the command's keys, for `inputs.json` and for messages."""
        described: dict[str, str | int | float | bool] = {
            "text.mode": self.mode,
            "text.lowercase_and_remove_accent": self.lowercase_and_remove_accent,
            "invalid_utf8": self.policy.invalid_utf8,
            "max_word_length": self.policy.max_word_length,
            "shard_megabytes": self.shard_megabytes,
        }
        if self.merges is not None:
            described["bpe.merges"] = self.merges
        if self.given is not None:
            described["bpe.codes (sha256)"] = sha256_of(self.given.codes)
            described["bpe.vocab (sha256)"] = sha256_of(self.given.vocabulary)
        return described

    def key(self, *more: str) -> str:
        """Hash of the settings, the tools' versions and `more`: equal keys, equal results."""
        parts = {
            **self.described(),
            **TOOL_VERSIONS,
            "unicode": unicodedata.unidata_version,
            "format": FORMAT_VERSION,
            "more": more,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check_text_model(
    merges: int | None, codes: Path | None, vocabulary: Path | None
) -> GivenTextModel | None:
    """The given codes and vocabulary, read once to be sure; None when they are to be learned."""
    if codes is None and vocabulary is None:
        if merges is None:
            raise UserError("give bpe.merges=N to learn BPE, or bpe.codes=FILE bpe.vocab=FILE")
        if merges < 1:
            raise UserError(f"bpe.merges={merges} must be at least 1")
        return None
    if codes is None or vocabulary is None:
        missing, there = ("codes", "vocab") if codes is None else ("vocab", "codes")
        raise UserError(
            f"bpe.{missing} is missing: it belongs to bpe.{there}; give both or neither"
        )
    if merges is not None:
        raise UserError("bpe.merges learns codes, bpe.codes reuses given ones: leave one out")
    read_codes(codes)
    Vocabulary.load(vocabulary)
    return GivenTextModel(codes, vocabulary)
