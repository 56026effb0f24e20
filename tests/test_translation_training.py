"""Translation is trained, judged and shown; killed, shared out and begun from other models."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from commands import SCRIPTS, environment, run
from crumbs import crumbs_of
from in_process import call
from processes import wait_until
from training import WORDS, summary, weights

STEPS = 16
UNSUPERVISED = ("objective=unmt", "objective.ae=0:1,12:0.5", "schedule=constant")
OPTIONS = (
    *WORDS,
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=8",
    "schedule.warmup_steps=2",
    "data.sentence_tokens=100",
    "data.slots_per_step=2",
    "checkpoint.every_n_steps=2",
    "callbacks.samples.new_tokens=20",
)
DIRECTIONS = ("de-en", "en-de")


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (*OPTIONS, f"data.dir={crumbs_of(prepared)}")


@pytest.fixture(scope="module")
def unsupervised(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "unsupervised"
    call("xlm-train", *words, *UNSUPERVISED, f"run.dir={folder}").expect()
    return folder


def rows(folder: Path, name: str) -> dict[int, float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def test_a_pair_of_sentences_is_learned_by_heart(words: tuple[str, ...], tmp_path: Path) -> None:
    """One batch again and again, both ways: the model then writes what it was shown."""
    folder = tmp_path / "run"
    learned = call(
        "xlm-train",
        *words,
        "objective=mt",
        "data.overfit_slots=1",
        "data.sentence_tokens=60",
        "trainer.max_steps=400",
        "trainer.val_check_interval=400",
        "model.dropout=0",
        "model.attention_dropout=0",
        "optimizer.lr=3e-3",
        f"run.dir={folder}",
    ).expect()
    losses = rows(folder, "train/loss")
    assert losses[max(losses)] < 0.1 < losses[min(losses)]
    assert set(learned.result["valid"]) == {*DIRECTIONS, "mean"}


def test_a_run_is_judged_by_its_translations(unsupervised: Path) -> None:
    told = summary(unsupervised)
    lines = (unsupervised / "translations" / "valid.de-en.ref.txt").read_text().splitlines()
    for direction in DIRECTIONS:
        judged = told["valid"][direction]
        assert judged["sentences"] == len(lines)
        assert 0 <= judged["bleu"] <= 100
        assert judged["perplexity"] > 1
        made = unsupervised / "translations" / f"test.{direction}.txt"
        assert len(made.read_text().splitlines()) == told["test"][direction]["sentences"]
    mean = rows(unsupervised, "valid/mean/bleu")
    assert sorted(mean) == [8, 16]
    best = max(mean, key=lambda step: mean[step])
    assert told["best_checkpoint"].endswith(f"best-{best:08d}.ckpt")
    assert told["valid"]["mean"]["bleu"] == pytest.approx(
        sum(told["valid"][name]["bleu"] for name in DIRECTIONS) / 2
    )
    samples = (unsupervised / "samples.md").read_text()
    assert "## step 8" in samples
    assert "**en-de**" in samples


def test_the_report_shows_how_well_it_translates(unsupervised: Path) -> None:
    text = (unsupervised / "report.html").read_text()
    assert "A translation model (from denoising and back-translation) of de-en and en-de" in text
    assert "BLEU of each direction" in text
    assert "nrefs:1|case:mixed|eff:no|tok:13a" in text
    judged = summary(unsupervised)["test"]["de-en"]
    low, high = judged["bleu_interval"]
    shown = f'{judged["bleu"]:.2f} <span class="muted">{low:.1f}&ndash;{high:.1f}</span>'
    assert shown in text
    assert "valid text; 95 %: " in text


def test_both_objectives_take_turns(unsupervised: Path) -> None:
    assert len(rows(unsupervised, "train/ae/loss")) == len(rows(unsupervised, "train/bt/loss")) > 0


def test_what_was_trained_translates(unsupervised: Path) -> None:
    words = (f"checkpoint={unsupervised}", "source=de", "target=en", "text=Der Mann kommt.")
    translated = call("xlm-translate", *words).expect().result
    assert len(translated["texts"]) == 1
    searched = call("xlm-translate", *words, "beam=3").expect().result
    assert len(searched["texts"]) == 1


def test_a_translator_starts_from_language_models(
    words: tuple[str, ...], unsupervised: Path, tmp_path: Path
) -> None:
    """Encoder and decoder each from its own; what is new is drawn at random."""
    short = ("trainer.max_steps=2", "schedule.warmup_steps=0", "callbacks.samples.new_tokens=0")
    for objective in ("clm", "mlm"):
        call(
            "xlm-train", *words, *short, f"objective={objective}", f"run.dir={tmp_path / objective}"
        ).expect()
    sources = (f"model.encoder_from={tmp_path / 'mlm'}", f"model.decoder_from={tmp_path / 'clm'}")
    folder = tmp_path / "run"
    still = ("optimizer.lr=1e-30", "optimizer.weight_decay=0")
    call("xlm-train", *words, *UNSUPERVISED, *short, *sources, *still, f"run.dir={folder}").expect()
    kept = _weights(folder)
    for network, objective in (("encoder", "mlm"), ("decoder", "clm")):
        given = _weights(tmp_path / objective)
        for name, tensor in given.items():
            torch.testing.assert_close(kept[name.replace("model.", f"model.{network}.")], tensor)
    new = {name for name in kept if ".source_" in name}
    assert len(new) == 8  # of the one layer: query, keys and values, out, norm
    assert {n for n in kept if n.startswith("model.decoder")} - new == {
        name.replace("model.", "model.decoder.") for name in given
    }
    other = call(
        "xlm-train", *words, f"run.dir={unsupervised}", "objective=clm", "objective.ae=0"
    ).expect(2)
    assert "another model" in other.stderr
    refused = call("xlm-train", *words, sources[0], f"run.dir={tmp_path / 'x'}").expect(2)
    assert "model.encoder_from" in refused.stderr


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return dict(checkpoint["state_dict"])


def test_a_killed_back_translation_goes_on_exactly(
    words: tuple[str, ...], unsupervised: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    command = [SCRIPTS / "xlm-train", *words, *UNSUPERVISED, f"run.dir={folder}"]
    with subprocess.Popen(command, env=environment(), text=True) as process:
        wait_until(lambda: any(folder.glob("checkpoints/step-00000004.ckpt")), process)
        os.kill(process.pid, signal.SIGKILL)
    assert not (folder / "summary.json").is_file()
    call("xlm-train", *words, *UNSUPERVISED, f"run.dir={folder}").expect()
    ours, theirs = summary(folder), summary(unsupervised)
    assert ours["weights_sha256"] == theirs["weights_sha256"]
    assert ours["tokens_seen"] == theirs["tokens_seen"]
    assert ours["test"] == theirs["test"]


@pytest.mark.parametrize(
    "more", [(), ("objective.mlm=1", "objective.clm=1")], ids=["translation", "with_models"]
)
def test_two_ranks_equal_one(
    more: tuple[str, ...], words: tuple[str, ...], unsupervised: Path, tmp_path: Path
) -> None:
    """With language modelling in between, one network of a rank rests while the other learns."""
    alone, together = unsupervised, tmp_path / "two"
    if more:
        alone = tmp_path / "one"
        call("xlm-train", *words, *UNSUPERVISED, *more, f"run.dir={alone}").expect()
    two = ("trainer=ddp_cpu", "trainer.precision=32", f"trainer.max_steps={STEPS}")
    run(
        "xlm-train", *words, *UNSUPERVISED, *more, *two, "trainer.val_check_interval=8",
        f"run.dir={together}",
    ).expect()  # fmt: skip
    ours, theirs = weights(together), weights(alone)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    for name in ("steps", "tokens_seen"):
        assert summary(together)[name] == summary(alone)[name]
    for direction in DIRECTIONS:
        one, other = (summary(folder)["valid"][direction] for folder in (alone, together))
        assert other["bleu"] == pytest.approx(one["bleu"], abs=1e-9)
        assert other["sentences"] == one["sentences"]
