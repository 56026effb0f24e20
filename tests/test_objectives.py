"""clm, mlm and tlm: what a batch asks, against transformers, and whole runs of each."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run
from crumbs import crumbs_of
from in_process import call
from test_model import in_transformers
from torch import Tensor

from xlm_lightning.model import XLM
from xlm_lightning.objectives import predictions

TINY = (
    "experiment=debug",
    "trainer.accelerator=cpu",
    "trainer.precision=32",
    "schedule=constant",
    "schedule.warmup_steps=2",
    "data.max_valid_tokens=500",
    "data.sentence_tokens=200",
    "trainer.val_check_interval=4",
    "checkpoint.every_n_steps=4",
)


@pytest.fixture(scope="module")
def model() -> XLM:
    torch.manual_seed(0)
    return XLM(vocab_size=80, num_languages=2, layers=2, dim=16, heads=2, max_positions=64).eval()


def scores(model: XLM, batch: dict[str, Any]) -> Tensor:
    hidden, _ = predictions(model, batch)
    return model.logits(hidden).log_softmax(-1)


@torch.no_grad()
def test_masked_predictions_are_those_of_transformers(model: XLM) -> None:
    tokens, places = torch.randint(14, 80, (3, 20)), torch.tensor([3, 4, 25, 59])
    batch = {"tokens": tokens, "places": places, "targets": places, "language": 1}
    ours = scores(model, {**batch, "objective": "mlm"})
    theirs = in_transformers(model, causal=False)(
        tokens, langs=torch.ones_like(tokens)
    ).logits.log_softmax(-1)
    assert (ours - theirs.flatten(0, 1)[places]).abs().max() < 1e-5


@torch.no_grad()
def test_pairs_with_padding_are_those_of_transformers(model: XLM) -> None:
    """Positions that begin anew, two languages in a row, rows of unequal length."""
    tokens = torch.randint(14, 80, (2, 12))
    tokens[1, 9:] = 2
    positions = torch.tensor([[*range(7), *range(5)], [*range(4), *range(5), 0, 0, 0]])
    languages = torch.tensor([[0] * 7 + [1] * 5, [0] * 4 + [1] * 8])
    lengths, places = torch.tensor([12, 9]), torch.tensor([1, 8, 11, 13, 20])
    batch = {
        "tokens": tokens,
        "places": places,
        "targets": places,
        "languages": languages,
        "positions": positions,
        "lengths": lengths,
        "objective": "tlm",
    }
    ours = scores(model, batch)
    out = in_transformers(model, causal=False)(
        tokens, langs=languages, position_ids=positions, lengths=lengths
    )
    theirs = out.logits.log_softmax(-1).flatten(0, 1)[places]
    assert (ours - theirs).abs().max() < 1e-5
    model.layers[0].attention.method = "strips"  # the path of training on a CPU
    assert (scores(model, batch) - theirs).abs().max() < 1e-5
    model.layers[0].attention.method = "auto"
    changed = {**batch, "tokens": tokens.where(tokens != 2, 77)}
    assert torch.equal(scores(model, changed), scores(model, batch))  # padding is not seen


def test_context_leaves_the_first_predictions_of_a_block_out(model: XLM) -> None:
    batch = {"tokens": torch.randint(14, 80, (3, 20)), "language": 0, "objective": "clm"}
    hidden, targets = predictions(model, batch)
    later_hidden, later = predictions(model, batch, context_size=5)
    assert later.view(3, -1).equal(targets.view(3, -1)[:, 5:])
    assert later.view(3, -1).equal(batch["tokens"][:, 6:])
    assert later_hidden.view(3, 14, 16).equal(hidden.view(3, 19, 16)[:, 5:])


@pytest.fixture(scope="module")
def crumbs(prepared: Path) -> Path:
    return crumbs_of(prepared)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("objective", ["mlm", "tlm", "mlm_tlm", "clm_mlm"])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    objective: str, crumbs: Path, tmp_path: Path
) -> None:
    """Weights, losses and text; the evaluation commands agree with the run's own figures."""
    words = (*TINY, f"objective={objective}", f"data.dir={crumbs}")
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    whole = call("xlm-train", *words, f"run.dir={straight}", "trainer.max_steps=8").expect()
    words = (*words, f"run.dir={halves}")
    assert call("xlm-train", *words, "trainer.max_steps=4").expect().result["steps"] == 4
    resumed = call("xlm-train", *words, "trainer.max_steps=8").expect()
    for name in ("weights_sha256", "valid", "test", "tokens_seen"):
        assert resumed.result[name] == whole.result[name]
    for name in ("train/loss", "train/tokens_seen"):
        assert [row[name] for row in rows(halves)] == [row[name] for row in rows(straight)]
    assert (halves / "samples.md").read_text() == (straight / "samples.md").read_text()
    first, *others = objective.split("_")
    for name in (first, *others):
        asked = (f"checkpoint={straight}", f"objective={name}")
        scored = call("xlm-evaluate", *asked).expect().result
        expected = whole.result["valid"] if name == first else whole.result["valid"][name]
        row = "de-en" if name == "tlm" else "de"
        assert scored[row]["perplexity"] == pytest.approx(expected[row]["perplexity"], rel=1e-6)
        assert scored[row]["tokens"] == expected[row]["tokens"]
        assert ("bits_per_byte" in scored[row]) == (name == "clm")


@pytest.mark.slow
def test_two_processes_count_the_tokens_of_both(crumbs: Path, tmp_path: Path) -> None:
    """Batches of pairs differ in size, so ranks differ in tokens."""
    words = (*TINY, "objective=mlm_tlm", f"data.dir={crumbs}", "trainer.max_steps=4")

    def tokens_seen(name: str, *more: str) -> int:
        outcome = run("xlm-train", *words, f"run.dir={tmp_path / name}", *more).expect()
        return int(outcome.result["tokens_seen"])

    alone = tokens_seen(
        "alone", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=4"
    )
    assert tokens_seen("two", "trainer=ddp_cpu", "trainer.val_check_interval=4") == alone
    assert alone > 4 * 2 * 128


def test_weights_change_with_the_steps(crumbs: Path, tmp_path: Path) -> None:
    words = (*TINY, f"data.dir={crumbs}", "trainer.max_steps=8", f"run.dir={tmp_path / 'run'}")
    call("xlm-train", *words, "objective.mlm=0:0,3:0,4:0.5", "objective.clm=0:1,6:0").expect()
    written = rows(tmp_path / "run")
    masked = [int(row["step"]) for row in written if row["train/mlm/loss"]]
    causal = [int(row["step"]) for row in written if row["train/clm/loss"]]
    assert causal == [1, 2, 3, 4, 5]  # steps 0 to 4; step 4 is the turn of the first objective
    assert masked == [6, 7, 8]


@pytest.mark.parametrize("weight", ["0.5", "1", "1e-1", "2."])
def test_a_weight_may_look_like_any_number(weight: str) -> None:
    told = call("xlm-train", "data.dir=x", f"objective.clm={weight}", "--cfg", "job").expect()
    shown = re.search(r"^  clm: '?([^'\n]+?)'?$", told.stdout, re.MULTILINE)
    assert shown
    assert float(shown[1]) == float(weight)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["objective.clm=0"], "at step 0 all weights are 0"),
        (["objective.clm=0:1,10:0"], "at step 10 all weights are 0"),
        (["objective.clm=-1"], "objective.clm=-1: must be a weight"),
        (["objective.clm=5:1"], "must be a weight"),
        (["objective.clm=0:1,x:2"], "must be a weight"),
        (["objective=mln"], "mlm"),
        (["objective.context_size=31"], "leaves nothing to score of data.stream_length=32"),
        (["objective.masking.random=0.5"], "makes more than 1"),
        (
            ["objective=tlm", "data.sentence_max_length=511"],
            "must be at most model.max_positions=512",
        ),
    ],
)
def test_mistakes_are_told(words: list[str], told: str, tmp_path: Path) -> None:
    refused = call("xlm-train", "experiment=debug", *words, f"run.dir={tmp_path / 'run'}").expect(2)
    assert told in refused.stderr
    assert not (tmp_path / "run").exists()


def test_translation_needs_parallel_text(crumbs: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(crumbs, tmp_path / "data"))
    manifest = json.loads((data / "manifest.json").read_text())
    del manifest["parallel"]["valid"]
    (data / "manifest.json").write_text(json.dumps(manifest))
    words = ("objective=tlm", f"data.dir={data}", f"run.dir={tmp_path / 'run'}")
    refused = call("xlm-train", *TINY, *words).expect(2)
    assert "objective.tlm needs parallel text" in refused.stderr
    assert "has none for valid" in refused.stderr
