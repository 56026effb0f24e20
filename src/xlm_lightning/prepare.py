"""xlm-prepare: find or make the raw text, then run the chain of `data_prep` on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from data_prep.prepare import prepare as prepare_files
from data_prep.verify import verify
from xlm_lightning.schema import (
    Corpus,
    NewscrawlCorpus,
    Prepare,
    SampleCorpus,
    TextCorpus,
    WikipediaCorpus,
)


@dataclass(frozen=True)
class RawText:
    """Text files by split and language, and what is known about them."""

    files: Mapping[str, Mapping[str, Sequence[Path]]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    nll_nats: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # true, where known


def prepare(config: Prepare) -> dict[str, Any]:
    """Run the command; the JSON result of the contract."""
    if config.verify is not None:
        return verify(Path(config.verify))
    raw = find_raw_text(config.corpus, config.workers)
    given = config.bpe.codes is not None
    return prepare_files(
        out=Path(config.out),
        files=raw.files,
        mode=cast(Any, config.text.mode),
        lowercase_and_remove_accent=config.text.lowercase_and_remove_accent,
        merges=None if given else config.bpe.merges,
        codes=Path(config.bpe.codes) if config.bpe.codes else None,
        vocabulary=Path(config.bpe.vocab) if config.bpe.vocab else None,
        workers=config.workers,
        shard_megabytes=config.shard_megabytes,
        invalid_utf8=cast(Any, config.invalid_utf8),
        max_word_length=config.max_word_length,
        corpus={**_described(config.corpus), **raw.facts},
        nll_nats=raw.nll_nats,
    )


def find_raw_text(corpus: Corpus, workers: int) -> RawText:
    """Return the text files of a corpus, written or downloaded where they are missing."""
    if isinstance(corpus, TextCorpus):
        return RawText(
            {split: _paths(getattr(corpus, split)) for split in ("train", "valid", "test")}
        )
    if isinstance(corpus, SampleCorpus):
        return _sample(corpus, workers)
    if isinstance(corpus, NewscrawlCorpus):
        from data_prep.download import newscrawl

        return RawText(
            newscrawl(
                Path(corpus.folder),
                corpus.languages,
                corpus.years,
                base_url=corpus.base_url,
                max_lines=corpus.max_lines,
                valid_lines=corpus.valid_lines,
                test_lines=corpus.test_lines,
            )
        )
    assert isinstance(corpus, WikipediaCorpus)
    from data_prep.download import wikipedia

    return RawText(
        wikipedia(
            Path(corpus.folder),
            corpus.languages,
            corpus.date,
            base_url=corpus.base_url,
            valid_lines=corpus.valid_lines,
            test_lines=corpus.test_lines,
        )
    )


def _sample(corpus: SampleCorpus, workers: int) -> RawText:
    from data_prep.sample import write_sample

    written = write_sample(
        Path(corpus.folder), megabytes=corpus.megabytes, seed=corpus.seed, workers=workers
    )
    return RawText(
        files={
            split: {language: [file.path] for language, file in languages.items()}
            for split, languages in written.files.items()
        },
        facts={"grammar_version": written.grammar_version, "overlap_with_train": written.overlap},
        nll_nats={
            split: {language: file.nll_nats for language, file in languages.items()}
            for split, languages in written.files.items()
            if split != "train"
        },
    )


def _described(corpus: Corpus) -> dict[str, Any]:
    """Return the corpus's settings without paths: the manifest is the same wherever files lie."""
    paths = ("folder", "train", "valid", "test")
    return {key: value for key, value in asdict(corpus).items() if key not in paths}


def _paths(files: Mapping[str, Any]) -> dict[str, list[Path]]:
    return {
        language: [Path(file) for file in (given if isinstance(given, list) else [given])]
        for language, given in files.items()
    }
