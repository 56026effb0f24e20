"""Applying codes with both backends, and every bad codes file as one clear error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from hostile import HOSTILE, LONG, fuzz
from plain_chain import PlainBpe

from xlm_lightning.errors import UserError
from xlm_lightning.text.bpe import BytePairEncoder, learn_bpe, read_codes, write_codes

BACKENDS = (
    pytest.param(
        "fastbpe", marks=pytest.mark.skipif(not find_spec("fastBPE"), reason="no fastBPE here")
    ),
    "tokenizers",
)
SENTENCES = (
    "der Hund und die Hunde des Hundes sahen den Hasen laufen",
    "the dog and the dogs ran after the hare and the hares ran away",
    "le chien et les chiens ont couru après l' élève étonné",
    "câinele și câinii aleargă după iepurele șiret în pădure",
)


@pytest.fixture(scope="module")
def words() -> list[str]:
    """Words of four languages and of hostile lines, with their marks still on them."""
    lines = [*SENTENCES, *HOSTILE, *fuzz(HOSTILE, 300, seed=3)]
    # Tokenised text holds no control characters; fastBPE stops at a NUL.
    return sorted({word for line in lines for word in line.split() if word.isprintable()})


@pytest.fixture(scope="module")
def codes(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bpe") / "codes"
    counts = Counter(word for line in SENTENCES for word in line.split()) + Counter(words)
    write_codes(path, learn_bpe(counts, 300))
    return path


@pytest.mark.parametrize("backend", BACKENDS)
def test_pieces_follow_the_definition(codes, words, backend):
    plain = PlainBpe(codes)
    pieces = BytePairEncoder(read_codes(codes), backend).apply(words)
    assert pieces == [" ".join(plain.pieces(word)) for word in words]
    assert any("@@ " in row for row in pieces)
    assert any("@@" not in row and len(row) > 3 for row in pieces)


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_words(codes, backend):
    encoder = BytePairEncoder(read_codes(codes), backend)
    for word in LONG:
        (pieces,) = encoder.apply([word.replace(" ", "")])
        assert pieces.replace("@@ ", "") == word.replace(" ", "")
    assert encoder.apply([]) == []
    assert encoder.apply([""]) == [""]


@pytest.mark.skipif(not find_spec("fastBPE"), reason="no fastBPE here")
@pytest.mark.shared
def test_backends_agree_on_real_words(corpora, tmp_path):
    import gzip

    counts: Counter[str] = Counter()
    for language in ("de", "en", "fr", "ro"):
        text = gzip.decompress((corpora / f"valid.{language}.txt.gz").read_bytes()).decode()
        counts.update(text[:300_000].split())
    write_codes(tmp_path / "codes", learn_bpe(counts, 3_000))
    ours, theirs = (
        BytePairEncoder(read_codes(tmp_path / "codes"), backend).apply(list(counts))
        for backend in ("tokenizers", "fastbpe")
    )
    assert ours == theirs


def test_a_missing_fastbpe_is_told_without_a_key_that_does_not_exist(codes, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastBPE", None)  # as where it was not built
    with pytest.raises(UserError, match="fastBPE is not installed") as caught:
        BytePairEncoder(read_codes(codes), "fastbpe")
    assert "bpe." not in str(caught.value)


@pytest.mark.skipif(not find_spec("fastBPE"), reason="no fastBPE here")
def test_fastbpe_loads_without_a_word(codes, capfd):
    BytePairEncoder(read_codes(codes), "fastbpe")
    os.write(2, b"still there\n")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "still there\n")


def test_codes_are_written_and_read_back(tmp_path):
    codes = [("a", "b", 12), ("ab", "c</w>", 7), ("é", "中", 1 << 40)]
    write_codes(tmp_path / "codes", codes)
    assert (tmp_path / "codes").read_bytes() == "a b 12\nab c</w> 7\né 中 1099511627776\n".encode()
    assert read_codes(tmp_path / "codes") == codes


def test_codes_without_final_newline(tmp_path):
    path = tmp_path / "codes"
    path.write_text("a b 12\nab c</w> 7", encoding="utf-8")
    assert read_codes(path) == [("a", "b", 12), ("ab", "c</w>", 7)]


BAD = {
    "empty": (b"", "empty"),
    "blank": (b"\n \n", "empty"),
    "garbage": (b"a b 3\nthis is no code at all\n", "line 2"),
    "count": (b"a b many\n", "line 1"),
    "negative": (b"a b -3\n", "line 1"),
    "superscript": ("a b ²\n".encode(), "line 1"),
    "blank line inside": (b"a b 3\n\nc d 2\n", "line 2"),
    "binary": (bytes(range(256)) * 20, "UTF-8"),
    "nul": (b"a b 3\n\0\0\0\0 3\n", "binary"),
    "vocabulary": (b"the 300\nof 200\n", "swapped"),
    "twice": (b"a b 3\na b 2\n", "line 2"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_codes_are_one_error(tmp_path, kind, backend):
    content, hint = BAD[kind]
    path = tmp_path / "codes"
    path.write_bytes(content)
    with pytest.raises(UserError, match=hint) as caught:
        BytePairEncoder(read_codes(path), backend)
    assert str(path) in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_missing_codes_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such"):
        read_codes(tmp_path / "codes")
    with pytest.raises(UserError, match="folder"):
        read_codes(tmp_path)


def test_bad_codes_do_not_end_the_process(tmp_path):
    """fastBPE itself exits or crashes on these; the process must live on to say more."""
    script = """
import sys
from pathlib import Path
from xlm_lightning.errors import UserError
from xlm_lightning.text.bpe import BytePairEncoder, read_codes
for name in sys.argv[1:]:
    try:
        BytePairEncoder(read_codes(Path(name)))
    except UserError:
        print("refused")
"""
    names = [str(tmp_path / "missing"), str(tmp_path)]
    for index, (content, _) in enumerate(BAD.values()):
        path = tmp_path / f"codes{index}"
        path.write_bytes(content)
        names.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", script, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"] * len(names)
