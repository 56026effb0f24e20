"""xlm-translate on a run folder with a model of random weights: lines, order, files, mistakes."""

from __future__ import annotations

import os
import pty
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Outcome
from crumbs import crumbs_of
from in_process import call

from xlm_lightning.checkpoint import MODEL_KEY
from xlm_lightning.generation import translate_batch
from xlm_lightning.manifest import Manifest
from xlm_lightning.model import XLM
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.trained_translator import load_translator
from xlm_lightning.translator import Translator

LINES = [
    "The old teacher saw a house.",
    "A house.",
    "",
    "The old teacher saw",
    "A",
    "  ",
    "A house.",
]
POSITIONS = 40


def write_run(folder: Path, data: Path, **described: Any) -> None:
    """A run folder whose only checkpoint is of random weights."""
    manifest = Manifest.load(data)
    arguments = {
        "vocab_size": manifest.vocab_size,
        "num_languages": 2,
        "layers": 1,
        "dim": 16,
        "heads": 2,
        "max_positions": POSITIONS,
    }
    torch.manual_seed(1)
    model = Translator(**arguments) if described.get("translates") else XLM(**arguments)
    run = RunFolder(folder)
    run.copy_text_model(data, manifest)
    run.checkpoints.mkdir()
    checkpoint = {
        MODEL_KEY: {
            "model": model.arguments,
            "languages": manifest.languages,
            "stream_length": POSITIONS,
            **described,
        },
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "global_step": 3,
    }
    torch.save(checkpoint, run.checkpoints / "last.ckpt")


@pytest.fixture(scope="module")
def data(prepared: Path) -> Path:
    return crumbs_of(prepared)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a translation model from de into en and back."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    write_run(folder, data, translates=True, objectives=["mt"])
    return folder


@pytest.fixture(scope="module")
def language_model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language_model") / "run"
    write_run(folder, data, objectives=["clm"])
    return folder


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return file


def translate(trained: Path, *words: str) -> Outcome:
    fixed = ("source=en", "target=de", "accelerator=cpu")
    return call("xlm-translate", f"checkpoint={trained}", *fixed, *words)


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Put a pipe with `content` in the place of standard input."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(content)
    monkeypatch.setattr(sys, "stdin", os.fdopen(reader, "r"))


# --- what is translated ---------------------------------------------------------------------------
@pytest.mark.parametrize("how", [[], ["batch_size=2"], ["beam=3", "batch_size=4"]])
def test_texts_are_those_of_the_lines_in_their_order(
    trained: Path, text_file: Path, how: list[str]
) -> None:
    found = translate(trained, f"text_file={text_file}", *how).expect().result
    alone = [translate(trained, f"text={line}", *how).expect().result["texts"][0] for line in LINES]
    assert found["texts"] == alone
    assert [bool(text) for text in found["texts"]] == [bool(line.strip()) for line in LINES]
    assert found["lines"] == len(LINES)
    assert found["tokens_per_second"] > 0
    assert (found["source"], found["target"]) == ("en", "de")
    assert found["checkpoint"].endswith("last.ckpt")


def test_a_text_is_what_the_model_finds(trained: Path) -> None:
    loaded = load_translator(str(trained))
    pipelines = loaded.load_text_model().pipelines()
    sources = [pipelines["en"].encode(LINES[0])]
    for beam in (1, 2):
        (ids,) = translate_batch(loaded.model, sources, source_language=1, language=0, beam=beam)
        (text,) = translate(trained, f"text={LINES[0]}", f"beam={beam}").expect().result["texts"]
        assert text == pipelines["de"].decode(ids)


def test_drawn_translations_depend_on_their_line_and_seed_alone(
    trained: Path, text_file: Path
) -> None:
    words = (f"text_file={text_file}", "temperature=1.5", "top_k=20")
    texts = translate(trained, *words).expect().result["texts"]
    assert translate(trained, *words, "batch_size=1").expect().result["texts"] == texts
    assert translate(trained, *words, "seed=1").expect().result["texts"] != texts
    assert translate(trained, f"text_file={text_file}").expect().result["texts"] != texts


def test_translations_are_written_to_a_file(trained: Path, text_file: Path, tmp_path: Path) -> None:
    texts = translate(trained, f"text_file={text_file}").expect().result["texts"]
    out = tmp_path / "new" / "out.txt"
    found = translate(trained, f"text_file={text_file}", f"out={out}").expect().result
    assert found["out"] == str(out)
    assert "texts" not in found
    assert out.read_text("utf-8") == "".join(f"{text}\n" for text in texts)
    assert [path.name for path in out.parent.iterdir()] == ["out.txt"]
    translate(trained, "text=A house.", f"out={out}").expect()  # as `>` of a shell
    assert out.read_text("utf-8") == f"{texts[1]}\n"


def test_standard_input_is_read_where_no_text_is_named(
    trained: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = translate(trained, f"text_file={text_file}").expect().result["texts"]
    feed(monkeypatch, text_file.read_bytes())
    outcome = translate(trained).expect()
    assert outcome.result["texts"] == texts
    assert "Ctrl-D" not in outcome.stderr


def test_a_terminal_is_told_what_is_awaited(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, terminal = pty.openpty()
    typing = threading.Thread(target=os.write, args=(ours, b"A house.\n\x04"))
    typing.start()
    monkeypatch.setattr(sys, "stdin", os.fdopen(terminal, "r"))
    outcome = translate(trained).expect()
    typing.join()
    os.close(ours)
    assert "type sentences of language en, one a line; Ctrl-D ends them\n" in outcome.stderr
    assert outcome.result["lines"] == 1


def test_a_direction_that_was_not_trained_is_told(data: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run", data, translates=True, directions=["de-en"])
    outcome = translate(tmp_path / "run", "text=A house.").expect()
    assert "the model was trained for de-en, not for en-de\n" in outcome.stderr
    words = ("source=de", "target=en", "text=Ein Haus.")
    assert "trained for" not in translate(tmp_path / "run", *words).expect().stderr


# --- what is refused ------------------------------------------------------------------------------
def refused(outcome: Outcome, complaint: str) -> None:
    outcome.expect(2)
    assert complaint in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["text=x", "target=en"], "target=en: is the language of the text"),
        (["text=x", "target=dee"], "target=dee: the model knows de, en. Did you mean 'de'?"),
        (["text=x", "source=fr"], "source=fr: the model knows de, en."),
        (["text_file={file}", "text=x"], "give either text= or text_file=, not both"),
        (["text_file={file}.none"], "text.txt.none: no such file"),
        (["text_file={empty}"], "empty.txt is empty"),
        (["text_file={binary}"], "binary.txt, line 2: not UTF-8 text"),
        (["text_file={long}"], "text_file, line 3: has "),
        (["text={words}"], f"text: has 100 tokens, the model reads {POSITIONS - 2} at most"),
        (["text_file={file}", "out={file}"], "text.txt: is the text itself"),
        (["text=x", "out={folder}"], "is a folder; name a file"),
        (["text=x", "out={file}/x"], "text.txt is a file; choose another folder"),
        (["text=x", "beam=0"], "beam=0: must be at least 1"),
        (["text=x", "length_penalty=0.5"], "length_penalty=0.5: weighs the texts of a beam search"),
    ],
)
def test_mistakes_are_told_in_a_line(
    trained: Path, text_file: Path, tmp_path: Path, words: list[str], complaint: str
) -> None:
    many = "house " * 100
    files = {
        "file": text_file,
        "folder": tmp_path,
        "words": many,
        "empty": tmp_path / "empty.txt",
        "binary": tmp_path / "binary.txt",
        "long": tmp_path / "long.txt",
    }
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"a\na\xff")
    (tmp_path / "long.txt").write_text(f"A\n\n{many}\n")
    refused(translate(trained, *(word.format(**files) for word in words)), complaint)


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"", "is empty"), (b"a\n\xff\n", "line 2: not UTF-8 text")]
)
def test_standard_input_that_is_no_text(
    trained: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, complaint: str
) -> None:
    feed(monkeypatch, content)
    refused(translate(trained), "standard input (neither text= nor text_file= is given)")
    feed(monkeypatch, content)
    refused(translate(trained), complaint)


def test_standard_input_that_is_closed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # what Python makes of `<&-`
    refused(translate(trained), "is closed; say text=... or text_file=FILE")


def test_a_line_of_standard_input_that_is_too_long(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b"A\n" + b"house " * 100)
    refused(translate(trained), "standard input, line 2: has 100 tokens")


def test_a_language_model_does_not_translate(language_model: Path, tmp_path: Path) -> None:
    told = "is a language model, which does not translate; it writes by xlm-generate"
    refused(translate(language_model, "text=A house."), told)
    (tmp_path / "config.json").write_text("{}")  # of transformers
    refused(translate(tmp_path, "text=A house."), told)


def test_a_translation_model_is_no_language_model(trained: Path) -> None:
    told = "is of a translation model: it writes by xlm-translate only"
    refused(call("xlm-generate", f"checkpoint={trained}", "language=de"), told)


def test_a_checkpoint_that_is_damaged(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, file)
    refused(translate(tmp_path / "run", "text=x"), "does not hold the model that it describes")
