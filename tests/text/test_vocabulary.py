"""The vocabulary file: order, ids, what is skipped, what is refused."""

from __future__ import annotations

import pytest

from xlm_lightning.errors import UserError
from xlm_lightning.text.vocabulary import FIRST_WORD_ID, MAX_SIZE, SPECIALS, UNK, Vocabulary


def test_ids_follow_counts_then_bytes(tmp_path):
    counts = {"b": 5, "a": 5, "z": 9, "中": 5, "é": 5, "😀": 5, "once": 1, "</s>": 99, "<unk>": 7}
    vocabulary = Vocabulary.from_counts(counts)
    assert vocabulary.words == ("z", "a", "b", "é", "中", "😀", "once")
    assert list(vocabulary.words[1:6]) == sorted(vocabulary.words[1:6], key=str.encode)
    vocabulary.save(tmp_path / "vocab")
    expected = "z 9\na 5\nb 5\né 5\n中 5\n😀 5\nonce 1\n"
    assert (tmp_path / "vocab").read_text(encoding="utf-8") == expected
    loaded = Vocabulary.load(tmp_path / "vocab")
    assert (loaded.words, loaded.counts) == (vocabulary.words, vocabulary.counts)
    assert len(loaded) == FIRST_WORD_ID + 7
    assert [loaded.id(word) for word in loaded.words] == list(range(14, 21))
    assert [loaded.token(index) for index in range(14)] == list(SPECIALS)
    assert loaded.id("never seen") == UNK


def test_special_ids_are_those_of_the_original():
    assert SPECIALS[:4] == ("<s>", "</s>", "<pad>", "<unk>")
    assert SPECIALS[4:] == tuple(f"<special{i}>" for i in range(10))


def test_lines_the_original_skips(tmp_path):
    path = tmp_path / "vocab"
    path.write_text("a 9\nb\u2028 8\nc c 7\nd\na 6\n<s> 6\ne 5\n", encoding="utf-8")
    vocabulary = Vocabulary.load(path)
    assert vocabulary.words == ("a", "e")
    assert vocabulary.id("e") == 15


BAD = {
    "empty": (b"", "empty"),
    "codes": (b"a b 300\nc d 200\n", "swapped"),
    "count": (b"the many\n", "line 1"),
    "superscript": ("the ²\n".encode(), "line 1"),
    "rising": (b"a 3\nb 4\n", "increase"),
    "binary": (bytes(range(256)) * 9, "UTF-8"),
    "nul": (b"a 3\n\0 2\n", "binary"),
    "no line": (b"nothing here fits\n", "no vocabulary line"),
    "too many": (b"".join(b"w%d 1\n" % i for i in range(MAX_SIZE - 13)), "16 bits"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_error(tmp_path, kind):
    content, hint = BAD[kind]
    path = tmp_path / "vocab"
    path.write_bytes(content)
    with pytest.raises(UserError, match=hint) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such"):
        Vocabulary.load(tmp_path / "vocab")
    with pytest.raises(UserError, match="folder"):
        Vocabulary.load(tmp_path)


def test_largest_vocabulary_fits():
    words = [f"w{i}" for i in range(MAX_SIZE - FIRST_WORD_ID)]
    assert Vocabulary(words, [1] * len(words)).id(words[-1]) == MAX_SIZE - 1
    with pytest.raises(UserError, match="16 bits"):
        Vocabulary([*words, "x"], [1] * (len(words) + 1))
