"""Test sets of WMT from a loopback server: fetched, checked, read, and prepared by the command."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import sacrebleu
from file_server import Remote
from in_process import call
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset

from data_prep.fetching import Patience
from data_prep.newstest import check_test_sets, fetch_test_sets
from data_prep.verify import verify
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest

HURRIED = Patience(attempts=4, first_wait_seconds=0.001, timeout_seconds=5.0)
SETS = {"de-en": {"test": "small16"}}
SEGMENTS = {
    "de": ["Müller &amp; Söhne sagten:  &quot;Nein&quot; .", "3 &lt; 4", "Das ist\u00a0gut ."],
    "en": ["Müller &amp; Sons said : &quot;No&quot; .", "3 &lt; 4", "That is good ."],
}
MEMBERS = {language: f"test/newstest2016-deen-src.{language}.sgm" for language in SEGMENTS}


def sgm(segments: list[str]) -> bytes:
    lines = [f'<seg id="{number}">{text}</seg>' for number, text in enumerate(segments, 1)]
    head = ['<srcset setid="newstest2016" srclang="any">', '<doc docid="1" genre="news">', "<p>"]
    return "\n".join([*head, *lines, "</p>", "</doc>", "</srcset>", ""]).encode()


def archive(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return packed.getvalue()


def small_sets(segments: dict[str, list[str]]) -> bytes:
    return archive({MEMBERS[language]: sgm(texts) for language, texts in segments.items()})


def publish(remote: Remote, content: bytes, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set in sacrebleu's table, whose archive lies on the loopback server."""
    path = f"/{name.replace('/', '-')}/test.tgz"
    remote.files[path] = content
    pair = [MEMBERS["de"], MEMBERS["en"]]
    entry = FakeSGMLDataset(
        name,
        data=[remote.url + path],
        md5=[hashlib.md5(content).hexdigest()],
        langpairs={"de-en": pair, "en-de": pair[::-1]},
    )
    monkeypatch.setitem(sacrebleu.DATASETS, name, entry)


@pytest.fixture
def served(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Remote:
    publish(remote, small_sets(SEGMENTS), "small16", monkeypatch)
    return remote


def fetched(folder: Path, sets: dict[str, dict[str, str]] = SETS) -> dict[str, dict[str, Path]]:
    files = fetch_test_sets(folder, sets, patience=HURRIED)
    return {split: {side: paths[0] for side, paths in sides.items()}
            for split, sides in files.items()}  # fmt: skip


# --- what arrives ---------------------------------------------------------------------------------
@pytest.mark.parametrize("pair", ["de-en", "en-de"])
def test_a_set_is_two_files_whose_lines_belong_together(
    served: Remote, tmp_path: Path, pair: str
) -> None:
    sides = fetched(tmp_path, {pair: {"test": "small16"}})["test"]
    assert list(sides) == [f"de-en.{language}" for language in pair.split("-")]
    read = {side: path.read_text().splitlines() for side, path in sides.items()}
    assert read["de-en.de"] == ['Müller & Söhne sagten: "Nein" .', "3 < 4", "Das ist gut ."]
    assert read["de-en.en"] == ['Müller & Sons said : "No" .', "3 < 4", "That is good ."]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"small16.{pair}.{language}.txt" for language in ("de", "en")),
        "small16.test.tgz",
    ]


def test_segments_are_those_of_sacrebleu(
    served: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own download and parser, which keep `&amp;`: its BLEU undoes that by itself."""
    theirs = sacrebleu.DATASETS["small16"]
    monkeypatch.setattr(theirs, "_outdir", str(tmp_path / "theirs"))
    monkeypatch.setattr(theirs, "_rawdir", str(tmp_path / "theirs" / "raw"))
    for (_, ours), file in zip(
        fetched(tmp_path)["test"].items(),
        (theirs.get_source_file("de-en"), theirs.get_reference_files("de-en")[0]),
        strict=True,
    ):
        undone = Path(file).read_text().replace("&quot;", '"').replace("&lt;", "<")
        assert ours.read_text() == undone.replace("&amp;", "&")


def test_a_transfer_that_breaks_off_goes_on(served: Remote, tmp_path: Path) -> None:
    served.break_off_after = [200, 100]
    assert len(fetched(tmp_path)["test"]) == 2
    assert [span for _, span, _ in served.requests] == [None, "bytes=200-", "bytes=300-"]


def test_what_is_there_is_not_fetched_again(served: Remote, tmp_path: Path) -> None:
    files = fetched(tmp_path)
    changed = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert fetched(tmp_path) == files
    assert len(served.requests) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == changed


def test_an_archive_that_was_put_there_by_hand_is_taken(served: Remote, tmp_path: Path) -> None:
    """For machines that do not reach the server."""
    (tmp_path / "small16.test.tgz").write_bytes(served.files["/small16/test.tgz"])
    assert len(fetched(tmp_path)["test"]) == 2
    assert served.requests == []


def test_the_name_of_a_set_is_no_path(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(remote, small_sets(SEGMENTS), "small16/dev", monkeypatch)
    fetched(tmp_path, {"de-en": {"valid": "small16/dev"}})
    assert (tmp_path / "small16_dev.de-en.de.txt").is_file()


# --- what is refused ------------------------------------------------------------------------------
def test_an_archive_with_another_md5_is_told_and_not_kept(served: Remote, tmp_path: Path) -> None:
    served.files["/small16/test.tgz"] += b"more"
    with pytest.raises(UserError, match=r"small16/test\.tgz has the md5 \w+, published is"):
        fetched(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "small16.test.tgz").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"small16\.test\.tgz has the md5 .*; remove it"):
        fetched(tmp_path)


def test_an_archive_writes_nowhere_but_where_its_text_goes(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members that climb out of the folder, and a link to a file of the user: none is followed."""
    secret = tmp_path / "secret.sgm"
    secret.write_bytes(sgm(["mine"]))
    members = {"../climbed": b"x", str(tmp_path / "absolute"): b"x",
               MEMBERS["de"]: sgm(SEGMENTS["de"])}  # fmt: skip
    publish(remote, archive(members, {MEMBERS["en"]: str(secret)}), "small16", monkeypatch)
    with pytest.raises(UserError, match=r"newstest2016-deen-src\.en\.sgm cannot be read from it"):
        fetched(tmp_path / "raw")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "secret.sgm"]
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["small16.test.tgz"]


@pytest.mark.parametrize(
    "content", [b"no archive", gzip.compress(b"x" * 2000)], ids=["no archive", "no tar inside"]
)
def test_what_is_no_archive_is_named(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    publish(remote, content, "small16", monkeypatch)
    with pytest.raises(UserError, match=r"small16\.test\.tgz"):
        fetched(tmp_path)


def test_sets_of_the_published_recipes_are_in_the_table() -> None:
    """Those at the head of the experiments: the server itself is not reached from here."""
    check_test_sets({"de-en": {"valid": "wmt13", "test": "wmt16"}})
    check_test_sets({"en-fr": {"valid": "wmt13", "test": "wmt14/full"}})
    check_test_sets({"en-ro": {"valid": "wmt16/dev", "test": "wmt16"}})
    with pytest.raises(UserError, match=r"wmt21: has no de-en in a format .*wmt16, "):
        check_test_sets({"de-en": {"test": "wmt21"}})


# --- from the command to the prepared folder ------------------------------------------------------
def test_the_command_prepares_them_beside_news_crawl(
    crawl: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in (("small13", "valid"), ("small16", "test")):
        texts = {language: [f"{language} {words} line {i} ." for i in range(40)]
                 for language in SEGMENTS}  # fmt: skip
        publish(crawl, small_sets(texts), name, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    out = tmp_path / "out"
    words = [
        "corpus=newscrawl",
        f"corpus.base_url={crawl.url}",
        f"corpus.folder={tmp_path / 'raw'}",
        *("corpus.valid_lines=50", "corpus.test_lines=50", "bpe.merges=50", "workers=1"),
        f"out={out}",
    ]
    sets = ["corpus.parallel.de-en.valid=small13", "corpus.parallel.de-en.test=small16"]
    result = call("xlm-prepare", *words, *sets).expect().result
    assert {split: result["parallel"][split]["de-en"]["de"]["lines"] for split in ("valid", "test")
            } == {"valid": 40, "test": 40}  # fmt: skip
    verify(out)
    manifest = Manifest.load(out)
    assert manifest.corpus["parallel"] == {"de-en": {"valid": "small13", "test": "small16"}}
    assert [*manifest.parallel["test"]] == ["de-en"]
    assert not (tmp_path / "home").exists()
    assert call("xlm-prepare", *words, *sets).expect().result["parallel"] == result["parallel"]
    said = call("xlm-prepare", *words, sets[1]).expect(2).stderr
    assert "corpus.parallel" in said
    assert len(said.splitlines()) <= 2


def test_a_folder_without_them_says_nothing_of_them(crawl: Remote, tmp_path: Path) -> None:
    """As before there were any: a folder that was prepared then is still found finished."""
    call(
        "xlm-prepare",
        "corpus=newscrawl",
        f"corpus.base_url={crawl.url}",
        f"corpus.folder={tmp_path / 'raw'}",
        *("corpus.valid_lines=50", "corpus.test_lines=50", "bpe.merges=50", "workers=1"),
        f"out={tmp_path / 'out'}",
    ).expect()
    assert "parallel" not in Manifest.load(tmp_path / "out").corpus
