"""Every mistake with text and codes: one or two lines that name it, and nothing half written."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_preparation import make_text, tree

from xlm_lightning.errors import UserError

Files = dict[str, dict[str, list[Path]]]


def refused(out: Path, prepare_small: Any, files: Any, **changes: Any) -> str:
    """The message of the refusal; checks its form and that `out` holds nothing."""
    with pytest.raises(UserError) as error:
        prepare_small(out, files, **changes)
    message = str(error.value)
    assert len(message.splitlines()) <= 2
    assert not out.exists()
    return message


def with_train(content: bytes, name: str = "bad.txt") -> Callable[[Path, Files], Path]:
    def change(folder: Path, files: Files) -> Path:
        path = folder / name
        path.write_bytes(content)
        files["train"]["de"] = [path]
        return path

    return change


TEXT = make_text(5, 2000).encode()
GZIPPED = gzip.compress(TEXT)
BAD_FILES = {
    "invalid UTF-8": (with_train(b"good\nb\xffd\n"), "line 2, byte 6: invalid UTF-8"),
    "lone surrogate": (with_train(b"good\n\xed\xa0\x80\n"), "line 2, byte 5: invalid UTF-8"),
    "UTF-16": (with_train("good\n".encode("utf-16")), "UTF-16"),
    "empty": (with_train(b""), "is empty"),
    "empty when unpacked": (with_train(gzip.compress(b""), "bad.gz"), "holds no words"),
    "byte order mark only": (with_train(b"\xef\xbb\xbf"), "holds no words"),
    "blank": (with_train(b"\n \n\t\n"), "holds no words"),
    "control characters only": (with_train(b"\0\0\n\x01\n"), "holds no words"),
    "less than a block": (with_train(b"a few words\n"), "fewer than one block (256)"),
    "truncated gzip": (with_train(GZIPPED[:-20], "bad.gz"), "truncated or damaged"),
    "bit flip": (
        with_train(GZIPPED[:5000] + bytes([GZIPPED[5000] ^ 1]) + GZIPPED[5001:], "bad.gz"),
        "truncated or damaged",
    ),
    "no gzip": (with_train(TEXT, "bad.gz"), "truncated or damaged"),
    "gzip under another name": (with_train(GZIPPED), "rename it to bad.txt.gz"),
    "unknown compression": (with_train(b"PK\3\4", "bad.zip"), "packed in a way that is not read"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, files, prepare_small, case):
    change, expected = BAD_FILES[case]
    path = change(tmp_path, files)
    message = refused(tmp_path / "out", prepare_small, files, shard_megabytes=10)
    assert expected in message
    assert str(path) in message or "corpus.train.de" in message


def test_bad_text_in_a_worker_process(tmp_path, files, prepare_small):
    with_train(TEXT + b"b\xffd\n")(tmp_path, files)
    message = refused(tmp_path / "out", prepare_small, files, workers=2)
    assert f"line {TEXT.count(10) + 1}, byte {len(TEXT) + 1}: invalid UTF-8" in message


def test_bad_text_after_finished_shards_keeps_them_unpublished(tmp_path, files, prepare_small):
    mended = files["valid"]["en"][0].read_bytes()
    files["valid"]["en"][0].write_bytes(b"b\xffd\n")
    out = tmp_path / "out"
    with pytest.raises(UserError, match="line 1, byte 1: invalid UTF-8"):
        prepare_small(out, files)
    assert not (out / "manifest.json").exists()
    assert not any(".partial-" in name for name in tree(out))
    files["valid"]["en"][0].write_bytes(mended)
    prepare_small(out, files)
    prepare_small(tmp_path / "fresh", files)
    assert tree(out) == tree(tmp_path / "fresh")


def test_missing_file_and_folder(tmp_path, files, prepare_small):
    files["train"]["de"] = [tmp_path / "nowhere.txt"]
    assert "corpus.train.de" in (m := refused(tmp_path / "out", prepare_small, files))
    assert "does not exist" in m
    files["train"]["de"] = [tmp_path]
    assert "is a folder" in refused(tmp_path / "out", prepare_small, files)


def test_unknown_names(tmp_path, files, prepare_small):
    out = tmp_path / "out"
    files["train"]["zz"] = files["train"]["de"]
    assert "unknown language 'zz'" in refused(out, prepare_small, files)
    del files["train"]["zz"]
    files["vaild"] = files.pop("valid")
    assert "Did you mean 'valid'?" in refused(out, prepare_small, files)


def test_valid_text_of_a_language_without_train_text(tmp_path, files, prepare_small):
    del files["train"]["en"]
    message = refused(tmp_path / "out", prepare_small, files)
    assert "corpus.valid.en: there is no train text of 'en'" in message


def test_no_files(tmp_path, files, prepare_small):
    out = tmp_path / "out"
    assert "no train text" in refused(out, prepare_small, {})
    assert "no train text" in refused(out, prepare_small, {"train": {}})
    assert "corpus.train.de names no file" in refused(out, prepare_small, {"train": {"de": []}})


def test_the_same_file_twice(tmp_path, files, prepare_small, capfd):
    path = files["train"]["de"][0]
    (tmp_path / "link.txt").symlink_to(path)
    files["train"]["de"].append(tmp_path / "link.txt")
    assert "twice" in refused(tmp_path / "out", prepare_small, files)
    files["train"]["de"] = [path]
    files["valid"]["de"] = [path]
    prepare_small(tmp_path / "out", files)
    warning = f"warning: {path} is given both as corpus.train.de and as corpus.valid.de"
    assert warning in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"merges": None}, "give bpe.merges=N"),
        ({"merges": 0}, "bpe.merges=0 must be at least 1"),
        ({"merges": None, "codes": "codes"}, "bpe.vocab is missing"),
        ({"merges": None, "vocabulary": "vocab"}, "bpe.codes is missing"),
        ({"codes": "codes", "vocabulary": "vocab"}, "leave one out"),
        ({"merges": None, "codes": "vocab", "vocabulary": "codes"}, "swapped"),
        ({"merges": None, "codes": "nowhere", "vocabulary": "vocab"}, "nowhere"),
        ({"merges": None, "codes": ".", "vocabulary": "vocab"}, "folder"),
        ({"merges": None, "codes": "empty", "vocabulary": "vocab"}, "empty"),
        ({"merges": None, "codes": "codes", "vocabulary": "empty"}, "empty"),
        ({"merges": None, "codes": "binary", "vocabulary": "vocab"}, "binary"),
    ],
)
def test_bad_codes_and_vocabularies(tmp_path, files, prepare_small, given, expected):
    (tmp_path / "codes").write_text("a b</w> 3\n")
    (tmp_path / "vocab").write_text("ab 3\nc 1\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    paths = {key: tmp_path / name for key, name in given.items() if isinstance(name, str)}
    message = refused(tmp_path / "out", prepare_small, files, **{**given, **paths})
    assert expected in message


def test_policies_count_what_they_change(tmp_path, files, prepare_small, capfd):
    with_train(TEXT + b"b\xffd\n\0 <s> " + b"x" * 200 + b"\n")(tmp_path, files)
    result = prepare_small(tmp_path / "out", files, invalid_utf8="replace")
    counts = result["train"]["de"]["anomalies"]
    assert counts["invalid_utf8_lines"] == 1
    assert counts["nul_characters"] == 1
    assert counts["special_words"] == 1
    assert counts["overlong_words"] == 1
    assert result["train"]["de"]["lines"] == TEXT.count(b"\n") + 2
    shown = capfd.readouterr().err
    assert "corpus.train.de: 1 invalid utf8 lines, 1 nul characters, 1 special words" in shown
    skipped = prepare_small(tmp_path / "skipped", files, invalid_utf8="skip")
    assert skipped["train"]["de"]["lines"] == TEXT.count(b"\n") + 1


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="where not even root may make a folder")
def test_a_folder_that_may_not_be_written(files, prepare_small):
    with pytest.raises(UserError, match=r"/sys.* cannot be written"):
        prepare_small(Path("/sys/out"), files)
