"""xlm-prepare: find or make the raw text, then run the chain of `data_prep` on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from data_prep.inputs import check_languages
from data_prep.lines import InvalidUtf8, TextPolicy
from data_prep.prepare import prepare as prepare_files
from data_prep.publishing import check_out
from data_prep.settings import Settings, check_text_model
from data_prep.verify import verify
from xlm_lightning.schema import (
    Corpus,
    NewscrawlCorpus,
    Prepare,
    SampleCorpus,
    TextCorpus,
    WikipediaCorpus,
)
from xlm_lightning.text.rules import Mode


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
    settings = _settings(config)
    _check_before_work(config, settings)
    raw = find_raw_text(config.corpus, config.workers)
    return prepare_files(
        out=Path(config.out),
        files=raw.files,
        settings=settings,
        workers=config.workers,
        corpus={**_described(config.corpus), **raw.facts},
        nll_nats=raw.nll_nats,
    )


def _settings(config: Prepare) -> Settings:
    """What decides the ids; given codes and vocabulary are read and checked here."""
    codes, vocabulary = config.bpe.codes, config.bpe.vocab
    merges = config.bpe.merges if codes is None else None
    return Settings(
        mode=cast(Mode, config.text.mode),
        lowercase_and_remove_accent=config.text.lowercase_and_remove_accent,
        policy=TextPolicy(cast(InvalidUtf8, config.invalid_utf8), config.max_word_length),
        shard_megabytes=config.shard_megabytes,
        merges=merges,
        given=check_text_model(
            merges,
            Path(codes) if codes is not None else None,
            Path(vocabulary) if vocabulary is not None else None,
        ),
    )


def _check_before_work(config: Prepare, settings: Settings) -> None:
    """Raise `UserError` for what is wrong whatever the text is: a download may take hours."""
    corpus = config.corpus
    if isinstance(corpus, NewscrawlCorpus | WikipediaCorpus):
        check_languages("corpus.languages", corpus.languages, settings.mode)
    if isinstance(corpus, NewscrawlCorpus) and corpus.parallel:
        from data_prep.newstest import check_test_sets

        check_test_sets(corpus.parallel)
    # Own files have no other facts, and text does not depend on the mirror it was fetched from.
    facts = {} if isinstance(corpus, TextCorpus) else _described(corpus)
    facts.pop("base_url", None)
    check_out(Path(config.out), settings, facts)


def find_raw_text(corpus: Corpus, workers: int) -> RawText:
    """Return the text files of a corpus, written or downloaded where they are missing."""
    if isinstance(corpus, TextCorpus):
        files = {split: _paths(getattr(corpus, split)) for split in ("train", "valid", "test")}
        for pair, splits in corpus.parallel.items():
            languages = pair.split("-")
            name = "-".join(sorted(languages))
            for split, two_files in splits.items():
                for language, file in zip(languages, two_files, strict=True):
                    files[split][f"{name}.{language}"] = [Path(file)]
        return RawText(files)
    if isinstance(corpus, SampleCorpus):
        return _sample(corpus, workers)
    if isinstance(corpus, NewscrawlCorpus):
        return RawText(_newscrawl(corpus))
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
            workers=workers,
        )
    )


def _newscrawl(corpus: NewscrawlCorpus) -> dict[str, dict[str, list[Path]]]:
    from data_prep.download import newscrawl
    from data_prep.newstest import fetch_test_sets

    folder = Path(corpus.folder)
    test_sets = fetch_test_sets(folder, corpus.parallel)  # the smaller ones first
    files = newscrawl(
        folder,
        corpus.languages,
        corpus.years,
        base_url=corpus.base_url,
        max_lines=corpus.max_lines,
        valid_lines=corpus.valid_lines,
        test_lines=corpus.test_lines,
    )
    return {split: own | test_sets.get(split, {}) for split, own in files.items()}


def _sample(corpus: SampleCorpus, workers: int) -> RawText:
    from data_prep.sample import write_sample

    written = write_sample(
        Path(corpus.folder), megabytes=corpus.megabytes, seed=corpus.seed, workers=workers
    )
    files: dict[str, dict[str, list[Path]]] = {}
    for split, own in written.files.items():
        files[split] = {language: [file.path] for language, file in own.items()}
        pair = written.parallel[split]
        files[split] |= {f"de-en.{language}": [path] for language, path in pair.items()}
    return RawText(
        files=files,
        facts={"grammar_version": written.grammar_version, "overlap_with_train": written.overlap},
        nll_nats={
            split: {language: file.nll_nats for language, file in languages.items()}
            for split, languages in written.files.items()
        },
    )


def _described(corpus: Corpus) -> dict[str, Any]:
    """Return the corpus's settings without paths: the manifest is the same wherever files lie."""
    paths = ["folder", "train", "valid", "test"]
    if isinstance(corpus, TextCorpus) or not getattr(corpus, "parallel", None):
        paths.append("parallel")  # files, or a folder that may have been prepared before there were
    return {key: value for key, value in asdict(corpus).items() if key not in paths}


def _paths(files: Mapping[str, Any]) -> dict[str, list[Path]]:
    return {
        language: [Path(file) for file in (given if isinstance(given, list) else [given])]
        for language, given in files.items()
    }
