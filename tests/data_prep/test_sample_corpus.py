"""The sample corpus as files: the same bytes everywhere, splits of their own, true counts."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep import progress
from data_prep.sample import SampleCorpus, log_probability, write_sample
from data_prep.sample import corpus as corpus_module
from data_prep.sample.grammar import LANGUAGES
from data_prep.sample.record import Split

GOLDEN = {  # the first 16 digits of sha256
    "parallel.test.de.txt": "e881363c55f2e0ef",
    "parallel.test.en.txt": "29bfe3e2fc84a2d5",
    "parallel.train.de.txt": "b30c0535452d5306",
    "parallel.train.en.txt": "ad869c29ac90ad92",
    "parallel.valid.de.txt": "2ed8ce383459c51f",
    "parallel.valid.en.txt": "3400731146bc1061",
    "test.de.txt": "a9efb30bd4a347d5",
    "test.en.txt": "57bb2440aa4ec9d1",
    "train.de.txt": "e54e954533a7deb0",
    "train.en.txt": "0fd01be13f5ebb02",
    "valid.de.txt": "8e22bcdae7fe59e8",
    "valid.en.txt": "ece120f55dd49d81",
}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> SampleCorpus:
    return write_sample(tmp_path_factory.mktemp("sample"), megabytes=0.3, seed=1)


def test_golden_bytes(corpus: SampleCorpus):
    """Whatever the platform and the Python version. A change of the grammar changes its version."""
    assert corpus.grammar_version == 2
    found = {path.name: sha256(path)[:16] for path in corpus.paths()}
    assert found == GOLDEN


def test_counts_describe_the_files(corpus: SampleCorpus):
    for files in corpus.files.values():
        for file in files.values():
            text = file.path.read_text(encoding="utf-8")
            assert file.bytes == file.path.stat().st_size
            assert file.lines == text.count("\n")
            assert file.documents == text.count("\n\n")
            assert text.endswith(".\n\n")
            assert "\n\n\n" not in text
            assert 0.35 < file.nll_nats / file.bytes < 0.5


def test_train_has_the_wanted_size(corpus: SampleCorpus):
    """English gets half as much as German."""
    for language, size in (("de", 300_000), ("en", 150_000)):
        assert size <= corpus.files["train"][language].bytes < size + 5000


@pytest.mark.parametrize("language", LANGUAGES)
def test_nll_is_that_of_the_text(corpus: SampleCorpus, language):
    """The scorer reads the first documents of valid; the generator's figure covers the file."""
    file = corpus.files["valid"][language]
    lines = file.path.read_text(encoding="utf-8").split("\n")[:-1]
    size = [i for i, line in enumerate(lines) if not line][39] + 1
    nats = -log_probability(lines[:size], language)
    bytes_read = sum(len(line.encode()) + 1 for line in lines[:size])
    assert nats / bytes_read == pytest.approx(file.nll_nats / file.bytes, rel=0.08)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nll_of_train_is_that_of_its_whole_text(tmp_path: Path, language):
    file = write_sample(tmp_path, megabytes=0.01, seed=1, workers=1).files["train"][language]
    lines = file.path.read_text(encoding="utf-8").split("\n")[:-1]
    assert -log_probability(lines, language) == pytest.approx(file.nll_nats, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_nll_of_whole_files_is_recomputed(corpus: SampleCorpus, language):
    for split in ("valid", "test"):
        file = corpus.files[split][language]
        lines = file.path.read_text(encoding="utf-8").split("\n")[:-1]
        assert -log_probability(lines, language) == pytest.approx(file.nll_nats, rel=1e-9)


def test_size_of_train_and_workers_leave_the_other_files_alone(
    corpus: SampleCorpus, tmp_path: Path
):
    small = write_sample(tmp_path, megabytes=0.01, seed=1, workers=1)
    for split in ("valid", "test"):
        for language in LANGUAGES:
            ours, theirs = corpus.files[split][language], small.files[split][language]
            assert sha256(ours.path) == sha256(theirs.path)
            assert ours.nll_nats == theirs.nll_nats
    for language in LANGUAGES:
        start = small.files["train"][language].path.read_bytes()
        assert corpus.files["train"][language].path.read_bytes().startswith(start)


def state(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SampleCorpus]:
    """Write a few documents a file into `tmp_path`."""
    monkeypatch.setattr(corpus_module, "_EVALUATION_BYTES", 2000)
    monkeypatch.setattr(corpus_module, "_PARALLEL_BYTES", 2000)
    settings = {"megabytes": 0.005, "seed": 1, "workers": 1}
    return lambda **changes: write_sample(tmp_path, **{**settings, **changes})


def test_what_is_written_is_left_alone(tiny, tmp_path: Path):
    first, before = tiny(), state(tmp_path)
    assert tiny(workers=2) == first
    assert state(tmp_path) == before


@pytest.mark.parametrize("damage", ["other bytes", "no file", "no record", "bad record"])
def test_what_is_not_whole_is_written_again(tiny, tmp_path: Path, damage):
    first = tiny()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    if damage == "other bytes":
        path = tmp_path / "train.de.txt"
        path.write_bytes(path.read_bytes().replace(b"a", b"o", 1))
    elif damage == "bad record":
        (tmp_path / "sample.json").write_text("[]")
    else:
        name = "parallel.test.en.txt" if damage == "no file" else "sample.json"
        (tmp_path / name).unlink()
    assert tiny() == first
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_settings_are_another_text(tiny, tmp_path: Path):
    first = tiny()
    text = (tmp_path / "train.de.txt").read_bytes()
    assert tiny(megabytes=0.01) != first
    assert (tmp_path / "train.de.txt").stat().st_size > len(text)
    assert tiny(seed=2) != first
    assert tiny() == first
    assert (tmp_path / "train.de.txt").read_bytes() == text


def test_progress_is_shown_while_other_processes_write(tmp_path: Path, capfd, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 0.01)
    write_sample(tmp_path, megabytes=0.01, seed=1, workers=2)
    lines = capfd.readouterr().err.splitlines()
    shown = [line for line in lines if line.startswith("write the sample text: ")]
    assert len(shown) > 3
    assert all("MB/s" in line and line.endswith(" left") for line in shown)
    assert shown[0] != shown[-1]


def test_seeds_and_splits_differ(corpus: SampleCorpus, tmp_path: Path):
    other = write_sample(tmp_path, megabytes=0.01, seed=2, workers=1)
    for written in (corpus, other):
        files = [file.path for split in written.files.values() for file in split.values()]
        assert len({path.read_bytes()[:2000] for path in files}) == len(files)
    ours, theirs = (one.files["valid"]["de"].path for one in (corpus, other))
    assert ours.read_bytes()[:2000] != theirs.read_bytes()[:2000]


@pytest.mark.parametrize(("split", "most"), [("train", 900), ("valid", 3000), ("test", 3000)])
def test_parallel_sentences_line_up(corpus: SampleCorpus, split: Split, most: int):
    lines = {
        language: corpus.parallel[split][language].read_text(encoding="utf-8").split("\n")[:-1]
        for language in LANGUAGES
    }
    assert len(lines["de"]) == len(lines["en"]) > most
    assert all(lines["de"])
    assert all(lines["en"])
    for name in ("Anna", "Peter", "Berlin"):
        places = [
            {number for number, line in enumerate(lines[language]) if name in line}
            for language in LANGUAGES
        ]
        assert len(places[0]) > 5
        assert places[0] == places[1]


def test_overlap_counts_long_sentences_of_train(corpus: SampleCorpus):
    train = {
        language: set(corpus.files["train"][language].path.read_text(encoding="utf-8").split("\n"))
        for language in LANGUAGES
    }
    for split in ("valid", "test"):
        for language in LANGUAGES:
            text = corpus.files[split][language].path.read_text(encoding="utf-8")
            long = [line for line in text.split("\n") if len(line.split()) > 10]
            assert len(long) > 500
            share = sum(line in train[language] for line in long) / len(long)
            assert corpus.overlap[split][language] == share
            assert share < 0.01
