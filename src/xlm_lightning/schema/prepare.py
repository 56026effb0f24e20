"""What `xlm-prepare` may be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from xlm_lightning.legality import Above, AtLeast, Existing, NotEmpty, OneOf, Verbatim
from xlm_lightning.schema.kinds import Conflict, LocalPath, PathName, Positive, Seed

Files = dict[str, Any]  # language -> a file or a list of files


@dataclass
class Corpus:
    """Where raw text comes from; the name decides which other keys there are."""

    name: str


@dataclass
class SampleCorpus(Corpus):
    """The embedded grammar: English and German of any size."""

    folder: PathName  # where the text is written
    megabytes: Annotated[float, Above(0)]  # of German train text; English gets half
    seed: Seed


@dataclass
class TextCorpus(Corpus):
    """Own files, plain or compressed."""

    train: Files
    valid: Files
    test: Files
    parallel: Files  # pair (`de-en`) -> split -> the file of each language, in the pair's order


@dataclass
class NewscrawlCorpus(Corpus):
    """News Crawl of WMT: shuffled sentences by language and year."""

    folder: PathName  # where downloads and text are kept
    languages: list[str]
    years: list[int]
    base_url: PathName
    max_lines: Annotated[int | None, AtLeast(1)]  # of train text, per language; None: all
    valid_lines: Positive  # taken from the end, per language
    test_lines: Positive
    parallel: dict[str, Any]  # pair (`de-en`) -> valid and test -> a test set of sacrebleu, wmt16


@dataclass
class WikipediaCorpus(Corpus):
    """Article dumps of Wikimedia."""

    folder: PathName
    languages: list[str]
    date: str  # YYYYMMDD or latest
    base_url: PathName
    valid_lines: Positive
    test_lines: Positive


CORPORA: dict[str, type[Corpus]] = {
    "sample": SampleCorpus,
    "text": TextCorpus,
    "newscrawl": NewscrawlCorpus,
    "wikipedia": WikipediaCorpus,
}


@dataclass
class Text:
    """From raw lines to tokens."""

    mode: Annotated[str, OneOf("moses", "sacremoses")]
    lowercase_and_remove_accent: bool


@dataclass
class Bpe:
    """Sub-words: learned (`merges`), or reused (`codes` and `vocab`)."""

    merges: Positive
    codes: Annotated[str | None, NotEmpty(), Existing("file"), Verbatim()]
    vocab: Annotated[str | None, NotEmpty(), Existing("file"), Verbatim()]


@dataclass
class Prepare:
    """xlm-prepare."""

    out: LocalPath
    verify: Annotated[
        str | None, NotEmpty(), Existing("folder"), Verbatim()
    ]  # only check this prepared folder
    workers: Positive
    shard_megabytes: Positive
    invalid_utf8: Annotated[str, OneOf("error", "replace", "skip")]
    max_word_length: Positive  # characters
    corpus: Corpus
    text: Text
    bpe: Bpe

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        codes, vocab = self.bpe.codes, self.bpe.vocab
        if (codes is None) != (vocab is None):
            given, lacking = ("codes", "vocab") if vocab is None else ("vocab", "codes")
            yield f"bpe.{given}={codes or vocab}", f"needs bpe.{lacking}=FILE beside it"
        if isinstance(self.corpus, TextCorpus):
            yield from _text_corpus_conflicts(self.corpus)
        if isinstance(self.corpus, TextCorpus | NewscrawlCorpus):
            yield from _parallel_conflicts(self.corpus)
            if self.corpus.parallel and self.invalid_utf8 == "skip":
                yield "invalid_utf8=skip", "would shift lines of parallel text; say replace"


def _text_corpus_conflicts(corpus: TextCorpus) -> Iterator[Conflict]:
    for split in ("train", "valid", "test"):
        for language, files in getattr(corpus, split).items():
            key = f"corpus.{split}.{language}"
            listed = files if isinstance(files, list) else [files]
            if not listed or not all(isinstance(file, str) and file for file in listed):
                yield f"{key}={files}", "must be a file or a list of files"
            if split != "train" and language not in corpus.train:
                yield f"{key}={files}", f"needs corpus.train.{language}=FILE beside it"


def _parallel_conflicts(corpus: TextCorpus | NewscrawlCorpus) -> Iterator[Conflict]:
    """What is wrong with pairs, with splits, and with what stands for each of them."""
    if isinstance(corpus, TextCorpus):
        known, lacking = [*corpus.train], "corpus.train.{}=FILE beside it"
        allowed, example = ["train", "valid", "test"], "train=[FILE,FILE]"
    else:
        known, lacking = corpus.languages, "{} among corpus.languages"
        allowed, example = ["valid", "test"], "test=wmt16"
    for pair, splits in corpus.parallel.items():
        key = f"corpus.parallel.{pair}"
        languages = pair.split("-")
        if len(languages) != 2 or not all(languages) or languages[0] == languages[1]:
            yield key, "must name two languages, as corpus.parallel.de-en"
            continue
        for language in languages:
            if language not in known:
                yield key, f"needs {lacking.format(language)}"
        if not isinstance(splits, dict) or not {*splits} <= {*allowed}:
            yield f"{key}={splits}", f"holds {', '.join(allowed)}, such as {key}.{example}"
            continue
        for split, given in splits.items():
            if isinstance(corpus, TextCorpus) and not _two_files(given):
                told = f"must be two files: [text in {languages[0]}, text in {languages[1]}]"
                yield f"{key}.{split}={given}", told
            if isinstance(corpus, NewscrawlCorpus) and not (given and isinstance(given, str)):
                yield f"{key}.{split}={given}", "must be a test set of sacrebleu, such as wmt16"


def _two_files(given: Any) -> bool:
    two = isinstance(given, list) and len(given) == 2
    return two and all(isinstance(file, str) and file for file in given)
