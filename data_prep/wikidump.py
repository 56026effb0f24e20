"""Articles of a MediaWiki XML dump, page by page as the file is read."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from data_prep.pool import Workers
from data_prep.progress import show_progress
from data_prep.reading import HashedFile, naming_damage, open_text
from data_prep.wikitext import plain_lines
from xlm_lightning.errors import UserError

ARTICLE_NAMESPACE = "0"
MEDIA_AND_CATEGORY_KEYS = ("6", "14")
PAGES_AT_ONCE = 200


@dataclass(frozen=True)
class PageBatch:
    """Wikitext of some articles, for one call of a worker."""

    texts: list[str]
    dropped_namespaces: frozenset[str]
    stored_bytes: int  # of the dump read for them


def articles(dump: Path, pool: Workers) -> Iterator[list[str]]:
    """The paragraphs of each article, in the dump's order; those without prose are left out."""
    with show_progress(f"extract {dump.name}", dump.stat().st_size) as progress:
        batches = _batches(dump)
        for documents, stored_bytes, text_bytes in pool.map(extract, batches):
            progress.advance(stored_bytes, text_bytes)
            yield from documents


def extract(batch: PageBatch) -> tuple[list[list[str]], int, int]:
    """The articles' paragraphs, and the sizes for the progress; runs in a worker process."""
    documents = [plain_lines(text, batch.dropped_namespaces) for text in batch.texts]
    characters = sum(map(len, batch.texts))
    return [document for document in documents if document], batch.stored_bytes, characters


def _batches(dump: Path) -> Iterator[PageBatch]:
    texts: list[str] = []
    dropped: set[str] = set()
    reported = 0
    with closing(HashedFile(dump)) as source, naming_damage(dump):
        for namespace_name, text in _pages(dump, source):
            if namespace_name:
                dropped.add(namespace_name.lower())
                continue
            texts.append(text)
            if len(texts) == PAGES_AT_ONCE:
                yield PageBatch(texts, frozenset(dropped), source.bytes_read - reported)
                texts, reported = [], source.bytes_read
        yield PageBatch(texts, frozenset(dropped), source.bytes_read - reported)


def _pages(dump: Path, source: HashedFile) -> Iterator[tuple[str, str]]:
    """Yield (name, "") for a namespace of files or categories, ("", wikitext) for an article."""
    try:
        events = ElementTree.iterparse(open_text(dump, source), events=("start", "end"))
        _, root = next(events)
        for event, element in events:
            if event == "start":
                continue
            tag = _local_name(element)
            if tag == "namespace" and element.get("key") in MEDIA_AND_CATEGORY_KEYS:
                yield element.text or "", ""
            elif tag == "page":
                text = _article_text(element)
                root.clear()  # else the tree of the whole dump would stay in memory
                if text:
                    yield "", text
    except (ElementTree.ParseError, StopIteration) as error:
        raise UserError(f"{dump} is no MediaWiki dump ({error}); download it again") from error


def _article_text(page: ElementTree.Element) -> str:
    """The wikitext of an article; empty for redirects and for pages of other namespaces."""
    text = ""
    for element in page.iter():
        match _local_name(element):
            case "redirect":
                return ""
            case "ns" if element.text != ARTICLE_NAMESPACE:
                return ""
            case "text":
                text = element.text or ""
    return text


def _local_name(element: ElementTree.Element) -> str:
    """The tag without the export format's namespace, which changes with each version."""
    return element.tag.rpartition("}")[2]
