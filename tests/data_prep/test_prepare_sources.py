"""`xlm-prepare` on dumps that a server of our own holds: whole, broken off, killed, run again."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import SCRIPTS, Outcome, environment, run, run_and_signal, run_on_a_terminal
from file_server import Remote
from processes import workers

from data_prep.verify import verify
from xlm_lightning.manifest import Manifest

NEWS = "news.2007.de.shuffled.deduped.gz"
DUMP = "dewiki-20240101-pages-articles.xml.bz2"


def words(corpus: str, remote: Remote, folder: Path, *more: str) -> list[str]:
    return [
        f"corpus={corpus}",
        f"corpus.base_url={remote.url}",
        f"corpus.folder={folder / 'raw'}",
        *(f"corpus.{split}_lines=20" for split in ("valid", "test")),
        "bpe.merges=50",
        f"out={folder / 'out'}",
        *more,
    ]


def check(folder: Path, outcome: Outcome) -> Manifest:
    """The folder is prepared and whole, in both languages."""
    result = outcome.expect().result
    assert result["out"] == str(folder / "out")
    assert verify(folder / "out")["verified"] == str(folder / "out")
    manifest = Manifest.load(folder / "out")
    assert {split: sorted(found) for split, found in manifest.splits.items()} == {
        split: ["de", "en"] for split in ("train", "valid", "test")
    }
    for split in manifest.splits:
        assert result[split]["de"]["tokens"] == manifest.total(split, "de", "tokens") > 0
    return manifest


def kill_in_the_middle(remote: Remote, path: str, command: list[str], listings: int) -> int:
    """Kill the command when half of a file is there, after `listings` whole answers.

    The server breaks off in the middle, so that there is a middle to be killed in. Returns the
    bytes that have arrived.
    """
    half = len(remote.files[path]) // 2
    remote.break_off_after = [len(remote.files[path])] * listings + [half, 0, 0, 0]
    folder = next(Path(word.partition("=")[2]) for word in command if "folder=" in word)
    part = folder / f"{path.rpartition('/')[2]}.part"
    outcome = run_and_signal(
        "xlm-prepare",
        *command,
        when=lambda: part.is_file() and part.stat().st_size == half,
        number=signal.SIGKILL,
    )
    assert outcome.code == -signal.SIGKILL
    assert not (folder.parent / "out").exists()
    remote.break_off_after = []
    remote.requests.clear()
    return half


def test_newscrawl(crawl, tmp_path):
    command = words("newscrawl", crawl, tmp_path)
    outcome = run_on_a_terminal("xlm-prepare", *command)
    manifest = check(tmp_path, outcome)
    assert f"unpack {NEWS}" in outcome.stderr
    assert manifest.corpus["years"] == [2007, 2008]
    assert manifest.total("train", "en", "lines") == 960
    assert manifest.total("valid", "en", "lines") == 20

    crawl.requests.clear()
    again = run("xlm-prepare", *command, "workers=1").expect()
    assert "is already prepared from the same text" in again.stderr
    other = run("xlm-prepare", *command, "corpus.years=[2006]").expect(2)
    assert "was prepared with corpus.years=[2007, 2008], not [2006]; give another" in other.stderr
    assert crawl.requests == []


def test_newscrawl_goes_on_where_a_killed_run_was(crawl, tmp_path):
    command = words("newscrawl", crawl, tmp_path)
    half = kill_in_the_middle(crawl, f"/de/{NEWS}", command, listings=0)
    check(tmp_path, run("xlm-prepare", *command))
    assert crawl.requests[0] == (f"/de/{NEWS}", f"bytes={half}-", 206)
    assert [status for _, _, status in crawl.requests] == [206, 200, 200, 200]


def test_wikipedia_goes_on_where_a_killed_run_was(wiki, tmp_path):
    command = words("wikipedia", wiki, tmp_path)
    path = f"/dewiki/20240101/{DUMP}"
    half = kill_in_the_middle(wiki, path, command, listings=1)
    manifest = check(tmp_path, run("xlm-prepare", *command))
    assert (path, f"bytes={half}-", 206) in wiki.requests
    assert [status for _, _, status in wiki.requests] == [200, 206, 200, 200]
    assert manifest.total("test", "de", "documents") == 10
    assert manifest.corpus["date"] == "latest"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
@pytest.mark.parametrize("wanted", [1, 2])
def test_wikipedia_is_extracted_by_the_workers_asked_for(wiki, tmp_path, wanted):
    process = subprocess.Popen(
        [SCRIPTS / "xlm-prepare", *words("wikipedia", wiki, tmp_path, f"workers={wanted}")],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    most = 0
    while process.poll() is None and not (tmp_path / "out").exists():  # then it is encoded
        most = max(most, len(workers(process.pid)))
        time.sleep(0.005)
    stdout, stderr = process.communicate(timeout=120)
    check(tmp_path, Outcome(process.returncode, stdout, stderr))
    assert most == (wanted if wanted > 1 else 0)
