"""Writes the sample corpus: text files per split and language, with their exact entropy.

Every file draws from a stream of its own, named by split and language, so that the size of train
changes no byte of the others. Parallel text puts one stream of meanings into both languages. The
entropy, that of train included, is what the sampler sums up while it draws, at no cost. The scorer,
which reads the text alone, gives the same figure (tested; to 1e-15 on 30 kB) but takes 70 to 90 s a
megabyte: a quarter of an hour for the train text of the default size.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.claims import one_at_a_time
from data_prep.pool import start_workers
from data_prep.progress import note, show_growth
from data_prep.sample.grammar import LANGUAGES, Language
from data_prep.sample.record import SampleCorpus, SampleFile, Split, load_record, save_record
from data_prep.sample.sampler import Sampler, Writer
from data_prep.sample.sentences import sample_grammar
from data_prep.workspace import naming_disk_errors
from xlm_lightning.atomic import TEMPORARY_PREFIX, atomic_write

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
GRAMMAR_VERSION = 2
# English has fewer forms to learn and gets half the train text: corpora differ in size, and how
# often a language is drawn (data.alpha) is then seen to matter.
_TRAIN_SHARE: Mapping[Language, float] = {"de": 1.0, "en": 0.5}
_EVALUATION_BYTES = 250_000
_PARALLEL_BYTES = 250_000  # of the German side of valid and test
_PARALLEL_SHARE = 0.25  # of the German train text, what there is of parallel train text
_LONG = 10  # a sentence of more words than this is not expected twice


@dataclass(frozen=True, slots=True)
class _Task:
    """The files of one language."""

    folder: Path
    train_bytes: int
    seed: int
    language: Language


@dataclass(frozen=True, slots=True)
class _PairTask:
    """The parallel files of one split; `size` is that of the German one."""

    folder: Path
    split: Split
    size: int
    seed: int


def write_sample(folder: Path, *, megabytes: float, seed: int, workers: int = 2) -> SampleCorpus:
    """Write `{train,valid,test}.{de,en}.txt` and the same with `parallel.` before into `folder`.

    `megabytes` is the size of the German train text; the English one is half as large. A blank line
    ends each document. What an earlier call wrote with the same settings is left as it is.
    """
    made_with = {"megabytes": megabytes, "seed": seed, "grammar_version": GRAMMAR_VERSION}
    with naming_disk_errors(folder):
        corpus = load_record(folder, made_with)
        if corpus is not None:
            note(f"{folder} already holds the sample text")
            return corpus
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder / ".lock", "writing the sample text"):
            corpus = load_record(folder, made_with)
            if corpus is None:
                corpus = _write(folder, megabytes, seed, workers)
                save_record(folder, corpus, made_with)
    return corpus


def _write(folder: Path, megabytes: float, seed: int, workers: int) -> SampleCorpus:
    tasks = [
        _Task(folder, int(megabytes * 1e6 * _TRAIN_SHARE[language]), seed, language)
        for language in LANGUAGES
    ]
    pairs = {"train": int(megabytes * 1e6 * _PARALLEL_SHARE)}
    pairs |= dict.fromkeys(("valid", "test"), _PARALLEL_BYTES)
    total = sum(task.train_bytes + 2 * _EVALUATION_BYTES + sum(pairs.values()) for task in tasks)
    try:
        with (
            show_growth("write the sample text", folder, total),
            start_workers(min(workers, len(tasks))) as pool,
        ):
            by_language = dict(zip(LANGUAGES, pool.map(_write_language, tasks), strict=True))
            jobs = [_PairTask(folder, split, pairs[split], seed) for split in SPLITS]
            parallel = dict(zip(SPLITS, pool.map(_write_parallel, jobs), strict=True))
    finally:
        for partial in folder.glob(f"{TEMPORARY_PREFIX}*"):  # of workers that were ended at once
            partial.unlink()
    return SampleCorpus(
        files={
            split: {language: by_language[language][0][split] for language in LANGUAGES}
            for split in SPLITS
        },
        parallel=parallel,
        overlap={
            split: {language: by_language[language][1][split] for language in LANGUAGES}
            for split in ("valid", "test")
        },
        seed=seed,
        grammar_version=GRAMMAR_VERSION,
    )


def _write_language(task: _Task) -> tuple[dict[Split, SampleFile], dict[Split, float]]:
    """Files, and the share of long sentences of valid and test that train holds, too."""
    folder, seed, language = task.folder, task.seed, task.language
    files: dict[Split, SampleFile] = {}
    long: dict[Split, Counter[str]] = {"valid": Counter(), "test": Counter()}
    for split, sentences in long.items():
        text = _Text(folder, split, language, _EVALUATION_BYTES, seed)
        sentences.update(line for line in text if line.count(" ") >= _LONG)
        files[split] = text.written
    wanted = long["valid"].keys() | long["test"].keys()
    train = _Text(folder, "train", language, task.train_bytes, seed)
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


def _write_parallel(task: _PairTask) -> dict[Language, Path]:
    """The same meanings in both languages, line by line."""
    grammar = sample_grammar()
    # The first of them had no split in its name, and its bytes are to stay.
    names = ("parallel",) if task.split == "test" else ("parallel", task.split)
    sampler = Sampler(grammar, task.seed, *names)
    writers = {language: Writer(grammar, language) for language in LANGUAGES}
    paths = {
        language: task.folder / f"parallel.{task.split}.{language}.txt" for language in LANGUAGES
    }
    with atomic_write(paths["de"]) as german, atomic_write(paths["en"]) as english:
        size = 0
        while size < task.size:
            meaning = sampler.document()
            size += german.write(_encoded(writers["de"].lines(meaning)))
            english.write(_encoded(writers["en"].lines(meaning)))
    return paths


def _encoded(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
