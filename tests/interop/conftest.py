"""Exported folders of both text presets, and the oracle beside the checkout, where it exists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from building import (
    Exported,
    export,
    learn_text_model,
    random_model,
    sample_lines,
    short_run,
    small_corpus,
)
from in_process import call

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracle" / "hf_parity.py"
PRESETS = {"nmt": False, "wiki": True}  # name -> lower-cased, accents removed


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products of matrices take longer with several threads, above all on a shared machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def oracle() -> Path:
    """The parity oracle; the test is skipped without it."""
    if not ORACLE.is_file():
        assert "REQUIRE_CORPORA" not in os.environ, f"no oracle at {ORACLE}"
        pytest.skip("the parity oracle is not beside this checkout")
    return ORACLE


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Preset -> a random causal model of German and English with its folder."""
    base = tmp_path_factory.mktemp("exports")
    corpus = small_corpus()
    made = {}
    for preset, lowercase in PRESETS.items():
        text_model = learn_text_model(corpus, lowercase_and_remove_accent=lowercase)
        made[preset] = export(random_model(text_model, seed=len(made)), base / preset)
    return made


@pytest.fixture(scope="session")
def exported(exports: dict[str, Exported]) -> Exported:
    """One of them, for tests to which the preset makes no difference."""
    return exports["nmt"]


@pytest.fixture(scope="session")
def prepared_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred sentences of German and English, prepared by the real command."""
    folder = tmp_path_factory.mktemp("prepared_text")
    words = ["corpus=text", "bpe.merges=200", "workers=1", f"out={folder / 'prepared'}"]
    for language in ("de", "en"):
        lines = sample_lines(language, 400)
        for split, part in (
            ("train", slice(200)),
            ("valid", slice(200, 300)),
            ("test", slice(300, None)),
        ):
            file = folder / f"{split}.{language}.txt"
            file.write_text("".join(f"{line}\n" for line in lines[part]), encoding="utf-8")
            words.append(f"corpus.{split}.{language}={file}")
    call("xlm-prepare", *words).expect()
    return folder / "prepared"


@pytest.fixture(scope="session")
def run_folder(prepared_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps on it."""
    folder = tmp_path_factory.mktemp("run") / "run"
    call("xlm-train", *short_run(prepared_text, folder)).expect()
    return folder
