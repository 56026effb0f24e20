"""The model card of a translator: what its run has recorded, no blank, and no folder of weights."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from building import edit_json
from crumbs import crumbs_of
from huggingface_hub import ModelCard
from in_process import call
from test_model_card import card_of, results
from test_translation_training import DIRECTIONS, OPTIONS, UNSUPERVISED

SHORT = ("trainer.max_steps=2", "trainer.val_check_interval=2", "schedule.warmup_steps=0")


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (*OPTIONS, *SHORT, f"data.dir={crumbs_of(prepared)}")


@pytest.fixture(scope="module")
def trained(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translator whose encoder began with a masked model."""
    folder = tmp_path_factory.mktemp("translator")
    call("xlm-train", *words, "objective=mlm", f"run.dir={folder / 'masked'}").expect()
    began = f"model.encoder_from={folder / 'masked'}"
    call("xlm-train", *words, *UNSUPERVISED, began, f"run.dir={folder / 'run'}").expect()
    return folder / "run"


@pytest.fixture
def run_copy(trained: Path, tmp_path: Path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))


def write_card(run: Path, *words: str) -> str:
    """The card alone, in the run's own folder."""
    result = call("xlm-export", f"checkpoint={run}", "card_only=true", *words).expect().result
    assert result == {"out": str(run), "files": ["README.md"]}
    return card_of(run)


def test_the_card_tells_what_the_run_has_recorded(run_copy: Path) -> None:
    corpus = {"name": "sample"}  # crumbs of it have no name
    edit_json(run_copy / "provenance.json", lambda content: content["data"].update(corpus=corpus))
    text = write_card(run_copy)
    summary = json.loads((run_copy / "summary.json").read_text())
    told = results(run_copy)
    for split, name in (("valid", "validation"), ("test", "test")):
        for direction in DIRECTIONS:
            row = summary[split][direction]
            assert told[direction, name, "bleu"] == row["bleu"]
            assert told[direction, name, "chrf"] == row["chrf"]
            scores = f"{row['bleu']:.2f} | {row['chrf']:.2f} | {row['bleu_tokenised']:.2f}"
            source, target = (
                {"de": "German", "en": "English"}[one] for one in direction.split("-")
            )
            assert f"| {source} to {target} | {split} | {scores} |" in text
    for metric in ("bleu", "chrf"):
        assert f"`{summary['test']['mean'][f'{metric}_signature']}`" in text
    for sentence in (
        "translates between German and English",
        "It was never shown a translation",
        "the encoder began with `masked`, a masked language model; the decoder began with random",
        "| 1 at step 0, 0.5 at step 12; straight lines in between |",
        "The parallel text of `train` was not trained on.",
        "names, numbers, dates and negations may come out as others of their kind",
        "sentences of a small artificial grammar",
        "decoded greedily",
        "xlm-translate checkpoint=RUN source=de target=en",
        "not measured, since the run was made without `carbon=true`",
    ):
        assert sentence in text
    assert str(run_copy.parent) not in text


def test_the_hub_reads_the_head_of_the_card(run_copy: Path) -> None:
    write_card(run_copy, "card.license=mit")
    data = ModelCard.load(run_copy / "README.md").data
    assert (data.language, data.pipeline_tag) == (["de", "en"], "translation")
    assert data.tags == ["translation", "xlm", "cross-lingual", "ae", "bt"]
    assert (data.library_name, data.metrics) == ("xlm-lightning", ["bleu", "chrf"])
    assert (data.license, data.base_model) == ("mit", None)
    signatures = {one.metric_args["signature"].partition(":")[0] for one in data.eval_results}
    assert signatures == {"nrefs"}
    assert {one.task_type for one in data.eval_results} == {"translation"}


def test_a_model_of_the_hub_that_weights_began_with_is_named(run_copy: Path) -> None:
    config = run_copy / "config.yaml"
    text, found = re.subn(r"encoder_from: .*", "encoder_from: owner/name", config.read_text())
    assert found == 1
    config.write_text(text)
    write_card(run_copy)
    assert ModelCard.load(run_copy / "README.md").data.base_model == ["owner/name"]


def test_test_sets_are_named(run_copy: Path) -> None:
    corpus = {"name": "newscrawl", "years": [2007], "parallel": {"de-en": {"test": "wmt16"}}}
    edit_json(run_copy / "provenance.json", lambda content: content["data"].update(corpus=corpus))
    assert "The corpus `newscrawl` of xlm-lightning (years 2007, de-en test wmt16):" in write_card(
        run_copy
    )


def test_the_card_of_a_translator_of_parallel_text(words: tuple[str, ...], tmp_path: Path) -> None:
    """With another objective beside it, whose scores stand below those of the translations."""
    run = tmp_path / "run"
    call("xlm-train", *words, "objective=mt", "objective.mlm=1", f"run.dir={run}").expect()
    text = write_card(run)
    assert "It learned from sentences and their translations." in text
    assert "All of the parallel text of `train` served `mt`." in text
    assert re.search(r"\| mlm \| de \| test \| [\d.]+ \|", text)
    masked = json.loads((run / "summary.json").read_text())["test"]["mlm"]
    assert results(run)["de", "test", "perplexity"] == masked["de"]["perplexity"]


@pytest.mark.parametrize("lost", ["summary.json", "provenance.json", "config.yaml", "all"])
def test_the_card_of_a_run_that_was_killed_or_robbed(run_copy: Path, lost: str) -> None:
    robbed = ["summary.json", "provenance.json", "config.yaml"] if lost == "all" else [lost]
    for name in robbed:
        (run_copy / name).unlink()
    text = write_card(run_copy)
    if "summary.json" in robbed:
        assert "`xlm-evaluate checkpoint=RUN split=test` scores them" in text
        assert results(run_copy) == {}
    if "provenance.json" in robbed:
        assert "weights that are not recorded" in text
    if "config.yaml" in robbed:
        assert "| not recorded |" in text


def test_scores_of_other_weights_are_left_out(run_copy: Path) -> None:
    edit_json(run_copy / "summary.json", lambda s: s.update(best_checkpoint="best-00000001.ckpt"))
    assert "The run has scored other weights than these (step 1)" in write_card(run_copy)
    assert results(run_copy) == {}


def test_a_record_that_is_not_ours_is_refused(run_copy: Path) -> None:
    edit_json(run_copy / "provenance.json", lambda content: content.update(start={"encoder": 3}))
    said = call("xlm-export", f"checkpoint={run_copy}", "card_only=true").expect(2).stderr
    assert len(said.splitlines()) == 1
    assert str(run_copy) in said


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("out={out}", "transformers has no XLM decoder that reads a source"),
        ("out={out}", "card_only=true writes a model card there"),
        ("objective=clm", "objective=clm: checkpoint="),
    ],
)
def test_weights_are_not_exported(trained: Path, tmp_path: Path, word: str, complaint: str) -> None:
    words = [word.format(out=tmp_path / "out")]
    words += ["card_only=true"] if word.startswith("objective") else []
    said = call("xlm-export", f"checkpoint={trained}", *words).expect(2).stderr
    assert complaint in said
    assert len(said.splitlines()) <= 2
    assert not (trained / "README.md").exists()
    assert not list(tmp_path.iterdir())
