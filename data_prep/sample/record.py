"""What is known of a written sample corpus, kept beside it: a later run need not write it again.

The record comes last and holds the hash of every file, so what it describes is there and whole.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data_prep.reading import sha256_of
from data_prep.sample.grammar import Language
from xlm_lightning.atomic import write_json

Split = Literal["train", "valid", "test"]
RECORD_NAME = "sample.json"


@dataclass(frozen=True, slots=True)
class SampleFile:
    """One written file; `nll_nats` is -ln P of its text."""

    path: Path
    bytes: int
    lines: int
    documents: int
    nll_nats: float


@dataclass(frozen=True, slots=True)
class SampleCorpus:
    """What was written; `overlap` is the share of long valid and test sentences found in train."""

    files: Mapping[Split, Mapping[Language, SampleFile]]
    parallel: Mapping[Split, Mapping[Language, Path]]
    overlap: Mapping[Split, Mapping[Language, float]]
    seed: int
    grammar_version: int

    def paths(self) -> list[Path]:
        """All files of text."""
        files = [file.path for languages in self.files.values() for file in languages.values()]
        pairs = [path for languages in self.parallel.values() for path in languages.values()]
        return [*files, *pairs]


def save_record(folder: Path, corpus: SampleCorpus, made_with: Mapping[str, Any]) -> None:
    """Write the record of a corpus that is complete."""
    described = json.loads(json.dumps(asdict(corpus), default=lambda path: path.name))
    hashes = {path.name: sha256_of(path) for path in corpus.paths()}
    write_json(
        folder / RECORD_NAME, {"made_with": made_with, "corpus": described, "sha256": hashes}
    )


def load_record(folder: Path, made_with: Mapping[str, Any]) -> SampleCorpus | None:
    """The corpus in `folder`, if it was made with the same settings and every byte is there."""
    path = folder / RECORD_NAME
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_bytes())
        if record["made_with"] != made_with:
            return None
        whole = all(_is_whole(folder / name, digest) for name, digest in record["sha256"].items())
        return _read_corpus(folder, record["corpus"]) if whole else None
    except (ValueError, KeyError, TypeError, AttributeError):  # no record of ours: write anew
        return None


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest


def _read_corpus(folder: Path, known: Mapping[str, Any]) -> SampleCorpus:
    return SampleCorpus(
        files={
            split: {
                language: SampleFile(**{**file, "path": folder / file["path"]})
                for language, file in languages.items()
            }
            for split, languages in known["files"].items()
        },
        parallel={
            split: {language: folder / name for language, name in languages.items()}
            for split, languages in known["parallel"].items()
        },
        overlap=known["overlap"],
        seed=known["seed"],
        grammar_version=known["grammar_version"],
    )
