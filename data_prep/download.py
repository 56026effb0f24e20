"""News Crawl and Wikipedia: fetched from their public servers and split into train, valid, test.

Each step leaves its file whole or not at all, so a run that was stopped goes on where it was: at
the byte, for a download. Whether languages have rules is for the caller to check, beforehand.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

from data_prep.claims import one_at_a_time
from data_prep.fetching import Checksum, Patience, fetch, fetch_text
from data_prep.holdout import HoldOut, write_splits
from data_prep.pool import start_workers
from data_prep.progress import note, show_progress
from data_prep.reading import HashedFile, naming_damage, open_text
from data_prep.wikidump import articles
from data_prep.workspace import naming_disk_errors
from xlm_lightning.errors import UserError

NEWSCRAWL_URL = "https://data.statmt.org/news-crawl"
WIKIPEDIA_URL = "https://dumps.wikimedia.org"
PATIENT = Patience()

CorpusFiles = dict[str, dict[str, list[Path]]]  # split -> language -> text files


def newscrawl(
    folder: Path,
    languages: Sequence[str],
    years: Sequence[int],
    *,
    base_url: str = NEWSCRAWL_URL,
    max_lines: int | None = None,
    valid_lines: int = 5000,
    test_lines: int = 5000,
    patience: Patience = PATIENT,
) -> CorpusFiles:
    """The sentences of the years in their order: `max_lines` (None: all but the last) for training.

    The lines after them are valid and test. News Crawl publishes no checksums: the length that the
    server states and the CRC inside each gzip file stand in for them. Its sentences are shuffled,
    so there are no documents to keep.
    """
    if not years:
        raise UserError("corpus.years is empty; give at least one, as [2007,2008]")
    hold_out = HoldOut(valid_lines, test_lines)
    last_line = None if max_lines is None else max_lines + valid_lines + test_lines
    files: CorpusFiles = {}
    with naming_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for language in languages:
            with _alone(folder, language):
                crawls = _fetch_crawls(folder, language, years, base_url, patience)
                name = f"newscrawl.{language}"
                key = [*(crawl.name for crawl in crawls), max_lines]
                targets = _targets(folder, name, key, hold_out)
                if not _all_there(targets):
                    sentences = ([line] for line in itertools.islice(_lines(crawls), last_line))
                    write_splits(sentences, targets, hold_out, blank_lines=False, source=name)
            _add(files, language, targets)
    return files


def wikipedia(
    folder: Path,
    languages: Sequence[str],
    date: str = "latest",
    *,
    base_url: str = WIKIPEDIA_URL,
    valid_lines: int = 5000,
    test_lines: int = 5000,
    workers: int = 1,
    patience: Patience = PATIENT,
) -> CorpusFiles:
    """The articles of a dump (`date` as YYYYMMDD, or `latest`), a paragraph a line.

    Documents are kept, a blank line between them; the last articles are held out. The dump is
    checked against the sha1 that is published beside it.
    """
    if not re.fullmatch(r"latest|\d{8}", date):
        raise UserError(f"corpus.date={date} must be YYYYMMDD or latest")
    hold_out = HoldOut(valid_lines, test_lines)
    files: CorpusFiles = {}
    with naming_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for language in languages:
            with _alone(folder, language):
                site = f"{base_url.rstrip('/')}/{language}wiki"
                dump_date, sha1 = _published_dump(site, language, date, patience)
                dump = folder / f"{language}wiki-{dump_date}-pages-articles.xml.bz2"
                url, checksum = f"{site}/{dump_date}/{dump.name}", Checksum("sha1", sha1)
                fetch(url, dump, checksum=checksum, patience=patience)
                name = f"wikipedia.{dump_date}.{language}"
                targets = _targets(folder, name, [sha1], hold_out)
                if not _all_there(targets):
                    with start_workers(workers) as pool:
                        documents = (
                            [line.encode() for line in article] for article in articles(dump, pool)
                        )
                        write_splits(
                            documents, targets, hold_out, blank_lines=True, source=dump.name
                        )
            _add(files, language, targets)
    return files


def _alone(folder: Path, language: str) -> AbstractContextManager[None]:
    """Several machines may prepare one corpus: the first one fetches it, the others wait."""
    return one_at_a_time(folder / f".{language}.lock", f"fetching the text of {language}")


def _fetch_crawls(
    folder: Path, language: str, years: Sequence[int], base_url: str, patience: Patience
) -> list[Path]:
    crawls = []
    for year in sorted(set(years)):
        name = f"news.{year}.{language}.shuffled.deduped.gz"
        url = f"{base_url.rstrip('/')}/{language}/{name}"
        fetch(url, folder / name, checksum=None, patience=patience)
        crawls.append(folder / name)
    return crawls


def _published_dump(site: str, language: str, date: str, patience: Patience) -> tuple[str, str]:
    """Date and sha1 of a dump; the list below `latest` tells which date that is at the moment."""
    url = f"{site}/{date}/{language}wiki-{date}-sha1sums.txt"
    pattern = rf"^([0-9a-f]{{40}})\s+{language}wiki-(\d{{8}})-pages-articles\.xml\.bz2$"
    found = re.search(pattern, fetch_text(url, patience), re.MULTILINE)
    if found is None:
        raise UserError(
            f"{url} lists no pages-articles.xml.bz2 (is that dump still being made?); "
            "give an earlier corpus.date"
        )
    return found[2], found[1]


def _lines(paths: Sequence[Path]) -> Iterator[bytes]:
    """The lines of compressed files that are not blank."""
    stored_bytes = sum(path.stat().st_size for path in paths)
    with show_progress(
        f"unpack {', '.join(path.name for path in paths)}", stored_bytes
    ) as progress:
        for path in paths:
            reported = text_bytes = 0
            with closing(HashedFile(path)) as source, naming_damage(path):
                for line in open_text(path, source):
                    text_bytes += len(line)
                    if source.bytes_read > reported:  # once in a megabyte: it is read in buffers
                        progress.advance(source.bytes_read - reported, text_bytes)
                        reported, text_bytes = source.bytes_read, 0
                    if stripped := line.strip():
                        yield stripped


def _targets(
    folder: Path, name: str, key: Sequence[str | int | None], hold_out: HoldOut
) -> dict[str, Path]:
    """Files of the splits; what they are made from is in the name, so another choice is another."""
    parts = [*map(str, key), str(hold_out.valid_lines), str(hold_out.test_lines)]
    tag = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    return {split: folder / f"{name}.{tag}.{split}.txt.zst" for split in hold_out.splits}


def _all_there(targets: dict[str, Path]) -> bool:
    """The files appear together, when the block that writes them ends; a kill may fall between."""
    there = all(path.is_file() for path in targets.values())
    if there:
        note(f"{', '.join(path.name for path in targets.values())}: already there")
    return there


def _add(files: CorpusFiles, language: str, targets: dict[str, Path]) -> None:
    for split, path in targets.items():
        files.setdefault(split, {})[language] = [path]
