"""`xlm-prepare` as one types it: mistakes told before the work begins, the help, the sample."""

from __future__ import annotations

import gzip
import math
import os
import resource
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import SCRIPTS, environment, run
from file_server import Remote
from in_process import call
from processes import workers
from small_preparation import make_text, tree

from data_prep.sample import log_probability
from data_prep.verify import verify
from xlm_lightning.manifest import Manifest

SAMPLE = ("corpus=sample", "corpus.megabytes=0.02", "bpe.merges=50")


def refusal(*words: str) -> str:
    """The line that refuses the words."""
    outcome = call("xlm-prepare", *words).expect(2)
    assert outcome.stdout == ""
    assert len(outcome.stderr.splitlines()) <= 2, outcome.stderr
    return outcome.stderr


# --- before anything is fetched -------------------------------------------------------------------
def foreign_folder(folder: Path) -> list[str]:
    (folder / "home").mkdir()
    (folder / "home" / "letter.txt").write_text("dear")
    return [f"out={folder / 'home'}"]


def below_a_file(folder: Path) -> list[str]:
    (folder / "file").write_text("")
    return [f"out={folder / 'file' / 'x'}"]


def dangling_link(folder: Path) -> list[str]:
    (folder / "link").symlink_to(folder / "nowhere")
    return [f"out={folder / 'link'}"]


def bad_codes(folder: Path) -> list[str]:
    (folder / "codes").write_text("a b</w> 3\nno code\n")
    (folder / "vocab").write_text("ab 3\n")
    return [f"bpe.codes={folder / 'codes'}", f"bpe.vocab={folder / 'vocab'}"]


def swapped(folder: Path) -> list[str]:
    (folder / "codes").write_text("a b</w> 3\n")
    (folder / "vocab").write_text("ab 3\n")
    return [f"bpe.codes={folder / 'vocab'}", f"bpe.vocab={folder / 'codes'}"]


MISTAKES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "rules that only perl has": (
        lambda _: ["corpus.languages=[en,fi]"],
        "text.mode=moses: the perl tokenizer has rules for 'fi'",
    ),
    "an unknown language": (lambda _: ["corpus.languages=[en,xx]"], "unknown language 'xx'"),
    "no language": (lambda _: ["corpus.languages=[]"], "corpus.languages is empty"),
    "a folder of other things": (foreign_folder, "home holds other files; name a new"),
    "a file on the way": (below_a_file, "file is no folder; name another"),
    "a link to nowhere": (dangling_link, "link is no folder; name another"),
    "below a device": (lambda _: ["out=/dev/null/x"], "/dev/null is no folder; name another"),
    "too long a name": (lambda _: [f"out=/tmp/{'x' * 300}"], "File name too long"),
    "bad codes": (bad_codes, "codes, line 2: 'no code' is not a BPE code"),
    "codes and vocabulary swapped": (swapped, "swapped?"),
}


@pytest.mark.parametrize("corpus", ["newscrawl", "wikipedia"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_before_anything_is_fetched(remote: Remote, tmp_path, corpus, mistake):
    change, message = MISTAKES[mistake]
    words = [f"corpus={corpus}", f"corpus.base_url={remote.url}", f"corpus.folder={tmp_path}/raw"]
    assert message in refusal(*words, f"out={tmp_path / 'out'}", *change(tmp_path))
    assert remote.requests == []
    assert not (tmp_path / "raw").exists()
    assert not (tmp_path / "out").exists()


def test_sacremoses_has_rules_for_more_languages(remote: Remote, tmp_path):
    """So they are asked for, and it is the server that does not have them."""
    words = ["corpus=newscrawl", f"corpus.base_url={remote.url}", f"corpus.folder={tmp_path}/raw"]
    words += ["corpus.languages=[fi]", "text.mode=sacremoses", f"out={tmp_path / 'out'}"]
    assert "news.2007.fi.shuffled.deduped.gz: HTTP 404" in refusal(*words)
    assert [path for path, _, _ in remote.requests] == ["/fi/news.2007.fi.shuffled.deduped.gz"]


@pytest.mark.parametrize("corpus", ["newscrawl", "wikipedia"])
def test_a_folder_for_downloads_that_cannot_be(remote: Remote, tmp_path, corpus):
    words = [f"corpus={corpus}", f"corpus.base_url={remote.url}", "corpus.folder=/dev/null/raw"]
    message = refusal(*words, f"out={tmp_path / 'out'}")
    assert "/dev/null/raw cannot be written: Not a directory; name another folder" in message
    assert remote.requests == []


def test_a_folder_of_another_corpus_is_refused_before_the_fetching(remote, tmp_path, files):
    text = [f"corpus.train.de={files['train']['de'][0]}", f"out={tmp_path / 'out'}"]
    call("xlm-prepare", "corpus=text", *text, "bpe.merges=50", "workers=1").expect()
    words = [f"corpus.base_url={remote.url}", f"corpus.folder={tmp_path}/raw"]
    for corpus, merges, message in (
        ("newscrawl", 50, "was prepared with corpus.name=text, not newscrawl; give another out="),
        ("wikipedia", 60, "was prepared with bpe.merges=50, not 60; give another out="),
    ):
        given = (f"corpus={corpus}", f"bpe.merges={merges}", f"out={tmp_path / 'out'}", *words)
        assert message in refusal(*given)
    assert remote.requests == []


# --- before anything is made ----------------------------------------------------------------------
def test_the_sample_text_is_not_made_for_a_folder_that_cannot_be(tmp_path):
    folder = f"corpus.folder={tmp_path / 'raw'}"
    assert "/dev/null is no folder; name another" in refusal(*SAMPLE, folder, "out=/dev/null/x")
    (tmp_path / "text.txt").write_text(make_text(1, 2000))
    text = ("corpus=text", f"corpus.train.de={tmp_path / 'text.txt'}")
    assert "/dev/null is no folder; name another" in refusal(*text, "out=/dev/null/x")
    words = foreign_folder(tmp_path)
    assert "holds other files" in refusal(*SAMPLE, folder, *words)
    assert "no code" in refusal(*SAMPLE, folder, f"out={tmp_path / 'out'}", *bad_codes(tmp_path))
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("place", ["/dev/null/raw", "/sys/raw"])
def test_a_folder_for_the_sample_text_that_cannot_be(tmp_path, place):
    message = refusal(*SAMPLE, f"corpus.folder={place}", f"out={tmp_path / 'out'}")
    assert f"{place} cannot be written: " in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_disk_that_is_full_of_sample_text(tmp_path, processes):
    """A limit on the size of files stands in for the disk."""
    done = subprocess.run(
        [SCRIPTS / "xlm-prepare", *SAMPLE, f"workers={processes}", f"out={tmp_path / 'out'}"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 2, done.stderr
    told = done.stderr.splitlines()[-1]
    assert told.startswith(f"xlm-prepare: {tmp_path / 'out_raw'}/")
    assert "cannot be written: File too large; name another folder" in told
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(tmp_path) == {}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
@pytest.mark.parametrize("who", ["a worker", "the command"])
def test_half_written_sample_text_is_removed(tmp_path, who):
    process = subprocess.Popen(
        [SCRIPTS / "xlm-prepare", *SAMPLE, "workers=2", f"out={tmp_path / 'out'}"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job, and so a test run in one, is born deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("out_raw/.partial-*"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    if who == "a worker":
        os.kill(workers(process.pid)[0], signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (2 if who == "a worker" else 130), errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob(".partial-*"))
    assert not (tmp_path / "out").exists()


# --- the sample -----------------------------------------------------------------------------------
def state(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_sample_from_beginning_to_end_and_again(tmp_path):
    words = (*SAMPLE, f"out={tmp_path / 'out'}")
    first = run("xlm-prepare", *words).expect().result
    verify(tmp_path / "out")
    check_limit(tmp_path)

    before = state(tmp_path)
    again = run("xlm-prepare", *words)
    assert "already holds the sample text" in again.stderr
    assert "is already prepared" in again.stderr
    assert again.expect().result | {"seconds": 0} == first | {"seconds": 0}
    assert state(tmp_path) == before
    message = "was prepared with corpus.megabytes=0.02, not 0.03; give another out="
    assert message in refusal(*words, "corpus.megabytes=0.03")
    assert state(tmp_path) == before


def check_limit(folder: Path) -> None:
    """The true entropy is there for every split: for train, that of the text with its tail."""
    manifest = Manifest.load(folder / "out")
    assert {split: sorted(found) for split, found in manifest.limit.items()} == {
        split: ["de", "en"] for split in ("train", "valid", "test")
    }
    for split, languages in manifest.limit.items():
        for language, limit in languages.items():
            tokens = manifest.total(split, language, "tokens")
            tokens += manifest.total(split, language, "dropped_tail")
            assert limit["perplexity"] == pytest.approx(math.exp(limit["nll_nats"] / tokens))
    text = (folder / "out_raw" / "train.en.txt").read_text(encoding="utf-8")
    nats = -log_probability(text.split("\n")[:-1], "en")
    assert manifest.limit["train"]["en"]["nll_nats"] == pytest.approx(nats, rel=1e-9)
    assert manifest.total("train", "en", "dropped_tail") > 0


# --- the help -------------------------------------------------------------------------------------
def test_the_examples_of_the_help_give_folders_to_train_on(tmp_path):
    shown = call("xlm-prepare", "--help").expect().stdout
    examples = shown.partition("Examples\n")[2].partition("\n\n")[0].replace("\\\n", " ")
    lines = [shlex.split(line) for line in examples.splitlines()]
    assert [line[0] for line in lines] == ["xlm-prepare"] * 3
    _, own_text, check = lines
    for seed, word in enumerate(own_text):
        key, _, value = word.partition("=")
        for name in value.strip("[]").split(",") if key.startswith("corpus.") else ():
            text = make_text(seed, 1000).encode()
            (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    run(*own_text, "bpe.merges=50", cwd=tmp_path).expect()
    run(*check, cwd=tmp_path).expect()
    splits = Manifest.load(tmp_path / "my_data").splits
    assert sorted(splits["valid"]) == sorted(splits["train"]) == ["de", "en"]
