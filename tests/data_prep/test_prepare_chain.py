"""From text files to a prepared folder: what stands in it, and what it does not depend on."""

from __future__ import annotations

import gzip
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_preparation import make_text, tree

from data_prep import learning, workspace
from data_prep.verify import verify
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest, manifest_sha256
from xlm_lightning.text.bpe import BytePairEncoder, read_codes
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.vocabulary import EOS, PAD, UNK, Vocabulary


def pipeline(folder: Path, language: str = "de") -> TextPipeline:
    return TextPipeline(
        language,
        mode="moses",
        lowercase_and_remove_accent=False,
        encoder=BytePairEncoder(read_codes(folder / "codes")),
        vocabulary=Vocabulary.load(folder / "vocab"),
    )


def test_the_folder_holds_what_the_contract_names(prepared):
    manifest = Manifest.load(prepared)
    names = {name for shard in manifest.shards() for name in (shard.name, shard.docs_name)}
    assert set(tree(prepared)) == {"manifest.json", "inputs.json", "codes", "vocab", *names}
    assert [shard.name for shard in manifest.splits["train"]["de"]][:2] == [
        "train/de-00000.bin",
        "train/de-00001.bin",
    ]
    assert manifest.vocab_size == len(Vocabulary.load(prepared / "vocab"))
    assert len(read_codes(prepared / "codes")) == 100
    assert manifest.text["mode"] == "moses"
    assert manifest.text["vocabulary_filter"] is False
    assert list(manifest.special_ids.values()) == list(range(14))
    assert [manifest.special_ids[word] for word in ("</s>", "<pad>", "<unk>")] == [EOS, PAD, UNK]
    assert manifest.corpus == {"name": "text"}


def test_ids_are_those_of_the_whole_text(prepared, files):
    """Valid shards one after the other are the encoded file; train lacks its tails only."""
    encode = pipeline(prepared).encode_lines
    manifest = Manifest.load(prepared)
    for split in ("train", "valid"):
        lines = files[split]["de"][0].read_text(encoding="utf-8").removesuffix("\n").split("\n")
        wanted = encode(lines).ids
        position = 0
        for shard in manifest.splits[split]["de"]:
            ids = np.fromfile(prepared / shard.name, "<u2")
            assert np.array_equal(
                ids[: shard.tokens], wanted[position : position + shard.tokens]
            ), shard.name
            assert (ids[shard.tokens :] == PAD).all()
            assert len(ids) % 256 == 0
            position += shard.tokens + shard.dropped_tail
        assert position == len(wanted)
        assert manifest.total(split, "de", "lines") == len(lines)
        assert manifest.total(split, "de", "raw_bytes") == files[split]["de"][0].stat().st_size


def test_documents_end_where_blank_lines_do(prepared, files):
    shard = Manifest.load(prepared).splits["valid"]["de"][0]
    ends = np.load(prepared / shard.docs_name)
    ids = np.fromfile(prepared / shard.name, "<u2")
    assert ends.dtype == np.uint64
    assert ends[-1] == shard.tokens
    assert shard.documents == len(ends) > 2
    assert (np.diff(ends.astype(np.int64)) > 0).all()
    for end in ends[:-1]:  # the last line of the document and a blank one
        assert ids[end - 2 : end].tolist() == [EOS, EOS]
        assert ids[end] != EOS


def test_train_shards_are_whole_blocks(prepared):
    for shard in Manifest.load(prepared).splits["train"]["en"]:
        assert shard.bytes == 2 * shard.tokens
        assert shard.tokens % 256 == 0
        assert 0 <= shard.dropped_tail < 256
        assert np.load(prepared / shard.docs_name)[-1] == shard.tokens


def test_vocabulary_counts_the_pieces_of_the_train_text(prepared, files):
    counted: dict[str, int] = {}
    vocabulary = Vocabulary.load(prepared / "vocab")
    for language in ("de", "en"):
        lines = files["train"][language][0].read_text(encoding="utf-8").split("\n")[:-1]
        for token_id in pipeline(prepared, language).encode_lines(lines).ids.tolist():
            token = vocabulary.token(token_id)
            counted[token] = counted.get(token, 0) + 1
    del counted["</s>"]
    assert counted == dict(zip(vocabulary.words, vocabulary.counts, strict=True))


def test_result_has_the_figures_of_the_manifest(tmp_path, files, prepare_small):
    result = prepare_small(tmp_path / "out", files)
    manifest = Manifest.load(tmp_path / "out")
    assert result["out"] == str(tmp_path / "out")
    assert result["vocab_size"] == manifest.vocab_size
    assert result["seconds"] > 0
    assert result["train"]["de"]["lines"] == 2000
    assert result["valid"]["en"]["tokens"] == manifest.total("valid", "en", "tokens")
    assert result["test"]["en"]["unknown"] == manifest.total("test", "en", "unknown")
    json.dumps(result)


def test_the_same_bytes_whatever_the_workers_and_the_packing(tmp_path, files, prepare_small):
    alone = prepare_small(tmp_path / "alone", files, workers=1)
    two = prepare_small(tmp_path / "two", files, workers=2)
    assert tree(tmp_path / "alone") == tree(tmp_path / "two")
    for result in (alone, two):
        del result["out"], result["seconds"]
    assert alone == two
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(files["train"]["de"][0].read_bytes()))
    files["train"]["de"] = [packed]
    prepare_small(tmp_path / "packed", files)
    assert manifest_sha256(tmp_path / "packed") == manifest_sha256(tmp_path / "alone")


def test_given_codes_and_vocabulary_are_taken_over(tmp_path, files, prepared, prepare_small):
    given = tmp_path / "given"
    given.mkdir()
    codes = (prepared / "codes").read_bytes().rstrip(b"\n")  # without a final newline
    (given / "codes").write_bytes(codes)
    vocab = (prepared / "vocab").read_bytes() + b"rare 1\n"
    (given / "vocab").write_bytes(vocab)
    out = tmp_path / "reused"
    paths = {"codes": given / "codes", "vocabulary": given / "vocab"}
    result = prepare_small(out, files, merges=None, **paths)
    assert (out / "codes").read_bytes() == codes
    assert (out / "vocab").read_bytes() == vocab
    assert result["vocab_size"] == Manifest.load(prepared).vocab_size + 1
    shards = {name: data for name, data in tree(prepared).items() if "/" in name}
    assert {name: data for name, data in tree(out).items() if "/" in name} == shards
    verify(out)


def test_a_finished_folder_is_answered_at_once(prepared, files, prepare_small, capfd):
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    result = prepare_small(prepared, files, workers=4)
    assert result["train"]["de"]["lines"] == 2000
    assert result["seconds"] < 1
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before
    captured = capfd.readouterr()
    assert "already prepared" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merges": 99}, "bpe.merges=100, not 99"),
        ({"mode": "sacremoses"}, "text.mode=moses, not sacremoses"),
        ({"lowercase_and_remove_accent": True}, "lowercase_and_remove_accent=False, not True"),
        ({"shard_megabytes": 0.03}, "shard_megabytes=0.02, not 0.03"),
        ({"invalid_utf8": "skip"}, "invalid_utf8=error, not skip"),
    ],
)
def test_another_finished_folder_is_refused(prepared, files, prepare_small, changes, message):
    with pytest.raises(UserError, match=message) as error:
        prepare_small(prepared, files, **changes)
    assert "another out=" in str(error.value)


def test_other_text_in_a_finished_folder_is_refused(prepared, files, prepare_small):
    path = files["valid"]["de"][0]
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(UserError, match=r"other text for corpus\.valid\.de"):
        prepare_small(prepared, files)
    del files["test"]["en"]
    with pytest.raises(UserError, match=r"other text for corpus\.(valid\.de|test\.en)"):
        prepare_small(prepared, files)


def test_a_finished_folder_with_a_damaged_shard_is_told(prepared, files, prepare_small):
    (prepared / "train/de-00000.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"de-00000\.bin has 0 bytes .* delete this folder"):
        prepare_small(prepared, files)


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_finished_folder_with_damaged_inputs_is_told(prepared, files, prepare_small, content):
    (prepared / "inputs.json").write_text(content)
    with pytest.raises(UserError, match=r"inputs\.json is damaged .* delete this folder"):
        prepare_small(prepared, files)


def test_an_unfinished_folder_of_other_settings_leaves_no_trace(tmp_path, files, prepare_small):
    """A run that ended before its manifest, with smaller shards and one more split."""
    out = tmp_path / "out"
    files["test"]["en"][0].write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="invalid UTF-8"):
        prepare_small(out, files, shard_megabytes=0.01)
    assert any((out / ".work").iterdir())
    del files["test"]
    prepare_small(out, files)
    prepare_small(tmp_path / "fresh", files)
    assert tree(out) == tree(tmp_path / "fresh")
    assert not (out / "test").exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path, files, prepare_small):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds other files"):
        prepare_small(tmp_path / "home", files)
    with pytest.raises(UserError, match=r"letter\.txt is no folder"):
        prepare_small(tmp_path / "home" / "letter.txt", files)
    with pytest.raises(UserError, match=r"letter\.txt is no folder"):
        prepare_small(tmp_path / "home" / "letter.txt" / "below", files)
    assert set(tree(tmp_path / "home")) == {"letter.txt"}


def test_a_file_where_a_folder_belongs_is_named(tmp_path, files, prepare_small):
    (tmp_path / "out" / ".work").mkdir(parents=True)
    (tmp_path / "out" / "train").write_text("")
    with pytest.raises(UserError, match="out/train cannot be written: File exists"):
        prepare_small(tmp_path / "out", files)


def test_several_files_of_a_language_follow_each_other(tmp_path, files, prepare_small):
    prepare_small(tmp_path / "one", files)
    whole = files["train"]["de"][0].read_bytes()
    cut = whole.index(b"\n", len(whole) // 2) + 1
    paths = [tmp_path / "a.txt", tmp_path / "b.txt.gz"]
    paths[0].write_bytes(whole[:cut])
    paths[1].write_bytes(gzip.compress(whole[cut:]))
    files["train"]["de"] = paths
    result = prepare_small(tmp_path / "two", files)
    assert result["train"]["de"]["lines"] == 2000
    assert (tmp_path / "one/vocab").read_bytes() == (tmp_path / "two/vocab").read_bytes()


def test_rare_words_go_when_there_are_too_many(tmp_path, files, prepare_small, monkeypatch):
    monkeypatch.setattr(learning, "MAX_WORD_TYPES", 50)
    prepare_small(tmp_path / "a", files)
    prepare_small(tmp_path / "b", files, workers=0)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    verify(tmp_path / "a")


def test_a_shard_without_a_block_is_left_out(tmp_path, files, prepare_small, capfd):
    path = files["train"]["de"][0]
    path.write_bytes(make_text(1, 500).encode() + (b"y" * 10_000 + b"\n") * 3)
    prepare_small(tmp_path / "out", files)
    assert "less than a block" in capfd.readouterr().err
    verify(tmp_path / "out")


def test_nothing_on_stdout_and_lines_on_stderr(tmp_path, files, prepare_small, capfd, monkeypatch):
    from data_prep import progress

    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    prepare_small(tmp_path / "out", files)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "encode: " in captured.err
    assert "MB/s" in captured.err
    assert "0:00:00 left" in captured.err
    assert "\r" not in captured.err


def test_the_manifest_comes_last(tmp_path, files, prepare_small, monkeypatch):
    """Whenever one looks, a folder with a manifest is whole."""
    seen: list[bool] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if (tmp_path / "out" / "manifest.json").is_file():
                verify(tmp_path / "out")
                seen.append(True)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    original = workspace.shutil.rmtree
    monkeypatch.setattr(
        workspace.shutil, "rmtree", lambda *a, **k: (time.sleep(0.2), original(*a, **k))
    )
    prepare_small(tmp_path / "out", files)
    stop.set()
    watcher.join()
    assert seen
