"""News Crawl and Wikipedia from a loopback server, down to a prepared folder."""

from __future__ import annotations

import bz2
import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest
import zstandard
from small_preparation import make_text

from data_prep import progress
from data_prep.download import newscrawl, wikipedia
from data_prep.fetching import Patience
from data_prep.verify import verify
from xlm_lightning.errors import UserError

HURRIED = Patience(attempts=4, first_wait_seconds=0.001, timeout_seconds=5.0)


def content(path: Path) -> list[str]:
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return file.read().split("\n")[:-1]


def get_crawl(remote, folder, **changes: Any):
    given = {"max_lines": None, "valid_lines": 20, "test_lines": 30, **changes}
    years = given.pop("years", [2008, 2007])
    return newscrawl(folder, ["de", "en"], years, base_url=remote.url, patience=HURRIED, **given)


def test_newscrawl_holds_out_the_last_lines(crawl, tmp_path):
    files = get_crawl(crawl, tmp_path)
    assert {split: sorted(languages) for split, languages in files.items()} == {
        split: ["de", "en"] for split in ("train", "valid", "test")
    }
    lines = [content(files[split]["de"][0]) for split in ("train", "valid", "test")]
    assert [len(part) for part in lines] == [950, 20, 30]
    whole = [f"de {year} sentence {i} ." for year in (2007, 2008) for i in range(500)]
    assert [line for part in lines for line in part] == whole


def test_unpacking_shows_how_far_it_is(crawl, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    get_crawl(crawl, tmp_path)
    names = ", ".join(f"news.{year}.de.shuffled.deduped.gz" for year in (2007, 2008))
    lines = capfd.readouterr().err.splitlines()
    shown = [line for line in lines if line.startswith(f"unpack {names}: 100%, ")]
    assert shown
    assert shown[-1].endswith(" MB/s, 0:00:00 left")


def test_newscrawl_takes_the_first_lines_for_training(crawl, tmp_path):
    files = get_crawl(crawl, tmp_path, max_lines=600)
    assert len(content(files["train"]["en"][0])) == 600
    assert content(files["valid"]["en"][0])[0] == "en 2008 sentence 100 ."
    assert content(files["test"]["en"][0])[-1] == "en 2008 sentence 149 ."


def test_a_second_run_fetches_and_writes_nothing(crawl, tmp_path):
    files = get_crawl(crawl, tmp_path)
    asked = len(crawl.requests)
    changed = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert get_crawl(crawl, tmp_path) == files
    assert len(crawl.requests) == asked
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == changed


def test_other_hold_outs_are_other_files(crawl, tmp_path):
    first = get_crawl(crawl, tmp_path)
    second = get_crawl(crawl, tmp_path, valid_lines=40)
    assert len(content(first["valid"]["de"][0])) == 20
    assert len(content(second["valid"]["de"][0])) == 40


def test_a_damaged_crawl_is_named_and_nothing_is_left(crawl, tmp_path):
    path = "/de/news.2008.de.shuffled.deduped.gz"
    crawl.files[path] = crawl.files[path][:-30]
    with pytest.raises(UserError, match=r"news\.2008\.de\.shuffled\.deduped\.gz is truncated"):
        get_crawl(crawl, tmp_path)
    assert not list(tmp_path.glob("*.zst"))
    assert not list(tmp_path.glob(".partial*"))


def test_mistakes_are_told_before_any_request(crawl, tmp_path):
    with pytest.raises(UserError, match=r"corpus\.years is empty"):
        newscrawl(tmp_path, ["de"], [], base_url=crawl.url)
    with pytest.raises(UserError, match=r"corpus\.date=2024 must be YYYYMMDD or latest"):
        wikipedia(tmp_path, ["de"], "2024", base_url=crawl.url)
    assert crawl.requests == []


def test_a_year_that_is_not_there_and_too_few_lines(crawl, tmp_path):
    with pytest.raises(UserError, match=r"news\.2030\.de.* HTTP 404"):
        get_crawl(crawl, tmp_path, years=[2030])
    with pytest.raises(UserError, match=r"newscrawl\.de has only 1000 lines: holding out 2000"):
        get_crawl(crawl, tmp_path, valid_lines=1000, test_lines=1000)


def get_wiki(remote, folder, date="latest", **changes: Any):
    given = {"valid_lines": 9, "test_lines": 10, **changes}
    return wikipedia(folder, ["de", "en"], date, base_url=remote.url, patience=HURRIED, **given)


@pytest.mark.parametrize("workers", [1, 2])
def test_wikipedia_keeps_articles_whole(wiki, tmp_path, workers):
    wiki.break_off_after = [20, 1000, 10]
    files = get_wiki(wiki, tmp_path, workers=workers)
    numbers = [i for i in range(450) if i not in (3, 4, 5)]
    parts = {"train": numbers[:-10], "valid": numbers[-10:-5], "test": numbers[-5:]}
    for split, part in parts.items():
        wanted = [line for i in part for line in (f"Article {i} first.", f"Second {i}.", "")]
        assert content(files[split]["de"][0]) == wanted


def test_latest_is_the_date_of_the_list(wiki, tmp_path):
    assert get_wiki(wiki, tmp_path) == get_wiki(wiki, tmp_path, "20240101")
    dumps = [path for path, _, _ in wiki.requests if path.endswith(".bz2")]
    assert dumps == [
        f"/{language}wiki/20240101/{language}wiki-20240101-pages-articles.xml.bz2"
        for language in ("de", "en")
    ]


def test_a_wrong_checksum_of_a_dump_is_told(wiki, tmp_path):
    path = "/dewiki/20240101/dewiki-20240101-pages-articles.xml.bz2"
    wiki.files[path] += b"more"
    with pytest.raises(UserError, match=r"dewiki-20240101-pages-articles\.xml\.bz2 has the sha1"):
        get_wiki(wiki, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_dump_that_is_still_being_made(wiki, tmp_path):
    wiki.files["/dewiki/latest/dewiki-latest-sha1sums.txt"] = b""
    with pytest.raises(UserError, match=r"lists no pages-articles\.xml\.bz2.*earlier corpus\.date"):
        get_wiki(wiki, tmp_path)


def test_a_dump_that_is_no_xml(wiki, tmp_path):
    packed = bz2.compress(b"<mediawiki><page>")
    wiki.files["/dewiki/20240101/dewiki-20240101-pages-articles.xml.bz2"] = packed
    sums = f"{hashlib.sha1(packed).hexdigest()}  dewiki-20240101-pages-articles.xml.bz2\n"
    wiki.files["/dewiki/latest/dewiki-latest-sha1sums.txt"] = sums.encode()
    with pytest.raises(UserError, match="is no MediaWiki dump"):
        get_wiki(wiki, tmp_path)


def test_what_was_fetched_can_be_prepared(remote, tmp_path, prepare_small):
    for language in ("de", "en"):
        text = make_text(1, 3000).replace("\n\n", "\n")
        name = f"news.2007.{language}.shuffled.deduped.gz"
        remote.files[f"/{language}/{name}"] = gzip.compress(text.encode())
    files = get_crawl(remote, tmp_path / "raw", years=[2007])
    result = prepare_small(tmp_path / "out", files)
    assert result["valid"]["de"]["lines"] == 20
    verify(tmp_path / "out")
