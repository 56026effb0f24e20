"""Writes the sample corpus: text files per split and language, with their exact entropy.

Every file draws from a stream of its own, named by split and language, so that the size of train
changes no byte of the others. The parallel test sentences put one stream of meanings into both
languages.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Literal

from data_prep.sample.grammar import LANGUAGES, Language
from data_prep.sample.sampler import Sampler, Writer
from data_prep.sample.sentences import sample_grammar
from xlm_lightning.atomic import atomic_write

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
GRAMMAR_VERSION = 2
# English has fewer forms to learn and gets half the train text: corpora differ in size, and how
# often a language is drawn (data.alpha) is then seen to matter.
_TRAIN_SHARE: Mapping[Language, float] = {"de": 1.0, "en": 0.5}
_EVALUATION_BYTES = 250_000
_PARALLEL_BYTES = 250_000  # of the German side
_LONG = 10  # a sentence of more words than this is not expected twice


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
    parallel: Mapping[Language, Path]
    overlap: Mapping[Split, Mapping[Language, float]]
    seed: int
    grammar_version: int


def write_sample(folder: Path, *, megabytes: float, seed: int, workers: int = 2) -> SampleCorpus:
    """Write `{train,valid,test}.{de,en}.txt` and `parallel.test.{de,en}.txt` into `folder`.

    `megabytes` is the size of the German train text; the English one is half as large. A blank line
    ends each document.
    """
    folder.mkdir(parents=True, exist_ok=True)
    train_bytes = [int(megabytes * 1e6 * _TRAIN_SHARE[language]) for language in LANGUAGES]
    jobs = (repeat(folder), train_bytes, repeat(seed), LANGUAGES)
    if workers > 1:
        with ProcessPoolExecutor(min(workers, len(LANGUAGES))) as pool:
            written = list(pool.map(_write_language, *jobs))
    else:
        written = list(map(_write_language, *jobs))
    by_language = dict(zip(LANGUAGES, written, strict=True))
    return SampleCorpus(
        files={
            split: {language: by_language[language][0][split] for language in LANGUAGES}
            for split in SPLITS
        },
        parallel=_write_parallel(folder, seed),
        overlap={
            split: {language: by_language[language][1][split] for language in LANGUAGES}
            for split in ("valid", "test")
        },
        seed=seed,
        grammar_version=GRAMMAR_VERSION,
    )


def _write_language(
    folder: Path, train_bytes: int, seed: int, language: Language
) -> tuple[dict[Split, SampleFile], dict[Split, float]]:
    files: dict[Split, SampleFile] = {}
    long: dict[Split, Counter[str]] = {"valid": Counter(), "test": Counter()}
    for split, sentences in long.items():
        text = _Text(folder, split, language, _EVALUATION_BYTES, seed)
        sentences.update(line for line in text if line.count(" ") >= _LONG)
        files[split] = text.written
    wanted = long["valid"].keys() | long["test"].keys()
    train = _Text(folder, "train", language, train_bytes, seed)
    seen = {line for line in train if line in wanted}
    files["train"] = train.written
    overlap = {
        split: sum(sentences[line] for line in seen) / max(sentences.total(), 1)
        for split, sentences in long.items()
    }
    return files, overlap


class _Text:
    """Writes one file while its lines are looked through; `written` tells of it afterwards."""

    written: SampleFile

    def __init__(
        self, folder: Path, split: Split, language: Language, size: int, seed: int
    ) -> None:
        self._path = folder / f"{split}.{language}.txt"
        self._size = size
        self._sampler = Sampler(sample_grammar(), seed, split, language)
        self._writer = Writer(sample_grammar(), language)

    def __iter__(self) -> Iterator[str]:
        size = lines = 0
        nats: list[float] = []
        with atomic_write(self._path) as file:
            while size < self._size:
                meaning = self._sampler.document()
                nats.append(-meaning.log_probability)
                document = self._writer.lines(meaning)
                size += file.write(_encoded([*document, ""]))
                lines += len(document) + 1
                yield from document
        self.written = SampleFile(self._path, size, lines, len(nats), math.fsum(nats))


def _write_parallel(folder: Path, seed: int) -> dict[Language, Path]:
    """The same meanings in both languages, line by line."""
    grammar = sample_grammar()
    sampler = Sampler(grammar, seed, "parallel")
    writers = {language: Writer(grammar, language) for language in LANGUAGES}
    paths = {language: folder / f"parallel.test.{language}.txt" for language in LANGUAGES}
    with atomic_write(paths["de"]) as german, atomic_write(paths["en"]) as english:
        size = 0
        while size < _PARALLEL_BYTES:
            meaning = sampler.document()
            size += german.write(_encoded(writers["de"].lines(meaning)))
            english.write(_encoded(writers["en"].lines(meaning)))
    return paths


def _encoded(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
