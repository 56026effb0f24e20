"""xlm-evaluate on translation runs: the figures of their summary, beams, other text, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run
from crumbs import LINES, crumbs_of
from in_process import call
from training import WORDS, summary

from xlm_lightning.bleu import corpus_scores

DIRECTIONS = ("de-en", "en-de")


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (
        *WORDS, "objective=mt", "trainer.max_steps=300", "trainer.val_check_interval=150",
        "schedule.warmup_steps=10", "optimizer.lr=1e-2", "model.dropout=0",
        "model.attention_dropout=0", "data.sentence_tokens=400", "data.slots_per_step=1",
        f"data.dir={crumbs_of(prepared)}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned some words of the crumbs, in batches of a size of its own."""
    folder = tmp_path_factory.mktemp("runs") / "mt"
    call("xlm-train", *words, f"run.dir={folder}").expect()
    return folder


def evaluate(checkpoint: Path, *words: str) -> dict[str, Any]:
    done = call("xlm-evaluate", f"checkpoint={checkpoint}", "accelerator=cpu", *words)
    return done.expect().result


def lines_of(run: Path, split: str, direction: str) -> list[str]:
    return (run / "translations" / f"{split}.{direction}.txt").read_text("utf-8").split("\n")[:-1]


# --- what a run says of itself --------------------------------------------------------------------
@pytest.mark.parametrize("split", ["valid", "test"])
def test_greedy_scores_are_those_of_the_summary(trained: Path, split: str) -> None:
    found = evaluate(trained, f"split={split}")
    told = summary(trained)[split]
    assert told["mean"]["bleu"] > 1
    assert {name: found[name] for name in (*DIRECTIONS, "mean")} == told
    assert (found["split"], found["beam"]) == (split, 1)
    assert found["checkpoint"] == summary(trained)["best_checkpoint"]


def test_the_precision_of_the_run_gives_its_scores(words: tuple[str, ...], tmp_path: Path) -> None:
    few = ("trainer.precision=bf16-mixed", "trainer.max_steps=60", "trainer.val_check_interval=60")
    call("xlm-train", *words, *few, f"run.dir={tmp_path / 'run'}").expect()
    told = summary(tmp_path / "run")["valid"]
    found = evaluate(tmp_path / "run", "precision=bf16-mixed")
    assert {name: found[name] for name in (*DIRECTIONS, "mean")} == told
    assert evaluate(tmp_path / "run")["de-en"]["nll_nats"] != told["de-en"]["nll_nats"]


def test_intervals_are_of_the_sentences(trained: Path) -> None:
    told = summary(trained)["test"]
    for name in (*DIRECTIONS, "mean"):
        low, high = told[name]["bleu_interval"]
        assert 0 <= low < told[name]["bleu"] < high
    widths = {
        name: told[name]["bleu_interval"][1] - told[name]["bleu_interval"][0] for name in told
    }
    assert widths["mean"] < max(widths[name] for name in DIRECTIONS)
    other = evaluate(trained, "split=test", "seed=1")
    assert other["de-en"]["bleu"] == told["de-en"]["bleu"]
    assert other["de-en"]["bleu_interval"] != told["de-en"]["bleu_interval"]
    assert other["mean"]["bleu_tokenised_signature"].startswith(
        "nrefs:1|case:mixed|eff:no|tok:none|smooth:none"
    )


def test_a_run_is_left_as_it_is(trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    evaluate(trained, "beam=2")
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


# --- otherwise ------------------------------------------------------------------------------------
def test_a_beam_search_is_that_of_xlm_translate(trained: Path, tmp_path: Path) -> None:
    how = ("beam=3", "length_penalty=1.5")
    found = evaluate(trained, *how, "batch_size=2")
    for direction in DIRECTIONS:
        source, target = direction.split("-")
        text = trained / "translations" / f"valid.{target}-{source}.ref.txt"
        out = tmp_path / f"{direction}.txt"
        languages = (f"source={source}", f"target={target}")
        words = (f"checkpoint={trained}", *languages, f"text_file={text}", f"out={out}")
        call("xlm-translate", *words, *how).expect()
        expected = corpus_scores(
            out.read_text("utf-8").split("\n")[:-1], lines_of(trained, "valid", f"{direction}.ref")
        )
        assert found[direction]["bleu"] == pytest.approx(expected["bleu"])
        assert found[direction]["chrf"] == pytest.approx(expected["chrf"])
    told = summary(trained)["valid"]
    assert found["de-en"]["perplexity"] == pytest.approx(told["de-en"]["perplexity"], rel=1e-5)
    assert found["de-en"]["tokens"] == told["de-en"]["tokens"]
    assert (found["beam"], found["length_penalty"]) == (3, 1.5)


def test_text_that_was_prepared_later(prepared: Path, trained: Path, tmp_path: Path) -> None:
    """With the model's words: the valid text of before, as the test text of a new folder."""
    texts = [
        f"corpus.{split}.{name}={prepared.with_name(f'crumbs.{split}.{name}.txt')}"
        for split in LINES
        for name in ("de", "en")
    ]
    pair = [trained / "translations" / f"valid.{name}.ref.txt" for name in ("en-de", "de-en")]
    run(
        "xlm-prepare", "corpus=text", *texts,
        f"corpus.parallel.de-en.test=[{pair[0]},{pair[1]}]", "workers=1",
        f"bpe.codes={trained / 'text' / 'codes'}", f"bpe.vocab={trained / 'text' / 'vocab'}",
        f"out={tmp_path / 'new'}",
    ).expect()  # fmt: skip
    found = evaluate(trained, f"data.dir={tmp_path / 'new'}", "split=test")
    told = summary(trained)["valid"]
    for direction in DIRECTIONS:
        assert found[direction]["sentences"] == LINES["valid"]
        assert found[direction]["bleu"] == pytest.approx(told[direction]["bleu"])
    told = call("xlm-evaluate", f"checkpoint={trained}", f"data.dir={tmp_path / 'new'}").expect(2)
    assert f"data.dir={tmp_path / 'new'} has no parallel text for split=valid" in told.stderr


def test_a_checkpoint_file_of_a_run_whose_config_is_gone(trained: Path, tmp_path: Path) -> None:
    """As a text model and weights alone are copied: the folder must be named."""
    for name in ("text", "checkpoints"):
        (tmp_path / name).symlink_to(trained / name)
    file = tmp_path / "checkpoints" / "last.ckpt"
    told = call("xlm-evaluate", f"checkpoint={file}").expect(2).stderr
    assert told == "xlm-evaluate: data.dir=null: say data.dir=DIR, the prepared folder to score\n"
    data = json.loads((trained / "provenance.json").read_text())["data"]["dir"]
    found = evaluate(file, f"data.dir={data}")
    assert found["de-en"]["sentences"] == LINES["valid"]


# --- what is refused ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "given",
    [
        ["suite=bias"],
        ["suite=crosslingual"],
        ["definition=xlm"],
        ["objective=clm"],
        ["language=de"],
        ["text_file={file}", "language=de"],
    ],
)
def test_keys_of_language_models_are_refused(
    trained: Path, tmp_path: Path, given: list[str]
) -> None:
    file = tmp_path / "text.txt"
    file.write_text("A\n")
    filled = [word.format(file=file) for word in given]
    told = call("xlm-evaluate", f"checkpoint={trained}", *filled).expect(2).stderr
    assert told.startswith(f"xlm-evaluate: {filled[0]}: {trained}")
    key = given[0].partition("=")[0]
    assert told.endswith(
        " is a translation model, scored by translating a split (xlm-translate takes lines of "
        f"text); leave {key}= out\n"
    )
    assert len(told.splitlines()) == 1


def test_a_text_is_not_repeated_in_the_refusal(trained: Path) -> None:
    words = (f"checkpoint={trained}", "text=A house.", "language=en")
    told = call("xlm-evaluate", *words).expect(2).stderr
    assert told.startswith(f"xlm-evaluate: text=...: {trained}")


def test_a_beam_search_of_a_language_model_is_refused(prepared: Path, tmp_path: Path) -> None:
    data = crumbs_of(prepared)
    short = ("trainer.max_steps=1", "schedule.warmup_steps=0", "trainer.val_check_interval=1")
    call("xlm-train", *WORDS, *short, f"data.dir={data}", f"run.dir={tmp_path / 'run'}").expect()
    told = call("xlm-evaluate", f"checkpoint={tmp_path / 'run'}", "beam=4").expect(2).stderr
    assert told.startswith(f"xlm-evaluate: beam=4: {tmp_path / 'run'}")
    assert told.endswith(" is a language model, scored by perplexity; leave beam= out\n")


def test_a_direction_that_was_not_trained_is_told(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("text", "config.yaml"):
        (tmp_path / "run" / name).symlink_to(trained / name)
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["xlm_lightning"]["directions"] = ["de-en"]
    torch.save(checkpoint, tmp_path / "run" / "checkpoints" / "last.ckpt")
    done = call("xlm-evaluate", f"checkpoint={tmp_path / 'run'}").expect()
    assert "the model was trained for de-en, not for en-de\n" in done.stderr
    assert "en-de" in done.result
