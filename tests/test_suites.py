"""The suites of xlm-evaluate: known answers, intervals, and what they say of too little."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from crumbs import crumbs_of
from in_process import call

from xlm_lightning.manifest import Manifest
from xlm_lightning.model import XLM
from xlm_lightning.run_folder import prepared_text_model
from xlm_lightning.sentence_scores import differing, log_odds
from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.suites import bias as bias_suite
from xlm_lightning.suites.layers import sentence_vectors
from xlm_lightning.suites.results import RANDOM, TRAINED, Findings, Measurement, mean, share
from xlm_lightning.suites.retrieval import (
    MASKED,
    add_sentence_retrieval,
    draw_pairs,
    hits_per_layer,
    mask_shared,
)
from xlm_lightning.suites.subject import Subject
from xlm_lightning.suites.translation import add_word_translation
from xlm_lightning.text.bpe import learn_bpe
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.text.vocabulary import EOS, MASK, Vocabulary

LANGUAGES = ["de", "en"]
GERMAN = ["".join(letters) + "ung" for letters in combinations("abcdefg", 3)]  # 35 words
ENGLISH = ["".join(letters) + "ing" for letters in combinations("abcdefg", 3)]
SAME = ["warm", "Hand"]
DICTIONARY = [*zip(GERMAN, ENGLISH, strict=True), *zip(SAME, SAME, strict=True)]


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of two steps."""
    folder = tmp_path_factory.mktemp("suites") / "run"
    words = ("experiment=debug", "trainer.accelerator=cpu", "trainer.precision=32")
    short = ("trainer.max_steps=2", "schedule.warmup_steps=1", "callbacks.samples.new_tokens=0")
    data = (f"data.dir={crumbs_of(prepared)}", f"run.dir={folder}")
    call("xlm-train", *words, *short, *data).expect()
    return folder


def small_model(vocab_size: int, seed: int = 0) -> XLM:
    torch.manual_seed(seed)
    model = XLM(vocab_size=vocab_size, num_languages=2, layers=2, dim=32, heads=2, max_positions=64)
    return model.eval()


def subject_of(words: Sequence[str], *, causal: bool = True) -> Subject:
    """Two small models of random weights, whose vocabulary has each of `words` in one piece."""
    counts = dict.fromkeys(words, 2)
    vocabulary = Vocabulary.from_counts(counts)
    text = TextModel(LANGUAGES, "moses", False, learn_bpe(counts, 100_000), vocabulary)
    models = {
        series: small_model(len(vocabulary), seed) for seed, series in enumerate((TRAINED, RANDOM))
    }
    return Subject(models, causal, LANGUAGES, text.pipelines(), vocabulary, seed=0)


def by_series(test: Measurement) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in test.rows:
        assert row.low <= row.value <= row.high
        found.setdefault(row.series, []).append(row.value)
    return found


# --- intervals ------------------------------------------------------------------------------------
def test_wilsons_interval() -> None:
    row = share("s", "g", 8, 10)
    assert (row.value, row.count) == (0.8, 10)
    assert (row.low, row.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert share("s", "g", 0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert share("s", "g", 0, 10).low == 0
    few = share("s", "g", 80, 100, independent=10)
    assert (few.count, few.low, few.high) == (100, row.low, row.high)
    assert share("s", "g", 10, 10).high == pytest.approx(1)


def test_the_bootstrap_is_that_of_the_mean_and_of_the_seed() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    row = mean("s", "g", values, seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert row.value == pytest.approx(values.mean())
    assert (row.low, row.high) == pytest.approx((row.value - half, row.value + half), abs=0.05)
    assert mean("s", "g", values, seed=1) == row
    assert mean("s", "g", values, seed=2) != row


# --- word translation -----------------------------------------------------------------------------
def test_equal_embeddings_translate_and_random_ones_do_not() -> None:
    subject = subject_of([*GERMAN, *ENGLISH, *SAME])
    weight = subject.models[TRAINED].tokens.weight.data
    for german, english in zip(GERMAN, ENGLISH, strict=True):
        one, other = subject.vocabulary.id(german), subject.vocabulary.id(english)
        weight[other] = 3 * weight[one]  # cosine, not distance
    found = Findings()
    add_word_translation(subject, LANGUAGES, DICTIONARY, found)
    same, best, best_five = found.tests
    assert (same.rows[0].value, same.rows[0].count) == (2 / 37, 37)
    assert best.chance == pytest.approx(1 / 37)
    assert best_five.chance == pytest.approx(5 / 37)
    assert by_series(best)[TRAINED] == [1, 1]
    assert max(by_series(best)[RANDOM]) < 0.2
    assert all(row.count == 35 for row in best.rows)
    assert all(0.02 < value < 0.4 for value in by_series(best_five)[RANDOM])


def test_one_of_several_translations_is_a_hit() -> None:
    subject = subject_of([*GERMAN, *ENGLISH])
    turned = [*ENGLISH[1:], ENGLISH[0]]
    weight = subject.models[TRAINED].tokens.weight.data
    for german, english in zip(GERMAN, turned, strict=True):
        weight[subject.vocabulary.id(english)] = weight[subject.vocabulary.id(german)]
    both = [*zip(GERMAN, ENGLISH, strict=True), *zip(GERMAN, turned, strict=True)]
    for pairs, expected in ((both, 1), (both[:35], 0)):
        found = Findings()
        add_word_translation(subject, LANGUAGES, pairs, found)
        assert by_series(found.tests[1])[TRAINED] == [expected, expected]


def test_words_of_several_pieces_are_left_out() -> None:
    subject = subject_of([*GERMAN[:30], *ENGLISH])
    found = Findings()
    add_word_translation(subject, LANGUAGES, DICTIONARY, found)
    assert found.tests[1].rows[0].count == 30
    few = Findings()
    add_word_translation(subject, LANGUAGES, DICTIONARY[:12], few)
    assert [test.name for test in few.tests] == ["identical_words"]
    assert "only 12 words" in few.limits[0]
    none = Findings()
    add_word_translation(subject, LANGUAGES, [("xyz", "zyx")], none)
    assert not none.tests
    assert "no pair" in none.limits[0]


# --- sentence retrieval ---------------------------------------------------------------------------
@pytest.mark.parametrize("causal", [True, False])
def test_sentence_vectors_are_means_of_the_states_whatever_stands_beside(causal: bool) -> None:
    model = small_model(40)
    sentences = [[EOS, 20, 21, 22, EOS], [EOS, 23, EOS], [EOS, *range(15, 35), EOS]]
    vectors = sentence_vectors(model, sentences, 1, causal=causal)
    assert vectors.shape == (3, 3, 32)
    for number, sentence in enumerate(sentences):
        alone = model(torch.tensor([sentence]), torch.tensor([[1]]), causal=causal)
        expected = alone[0, 1:-1].mean(dim=0)
        assert torch.allclose(vectors[-1, number], expected, atol=1e-5)


def test_masks_stand_for_shared_words_names_and_digits() -> None:
    words = ["In", "in", "München", "Munich", "schl@@", "äft", "sleeps", "2,5", "2.5", "."]
    vocabulary = Vocabulary(words, [1] * len(words))
    ids = {word: vocabulary.id(word) for word in words}
    german = [EOS, *(ids[word] for word in ("In", "München", "schl@@", "äft", "2,5", ".")), EOS]
    english = [EOS, *(ids[word] for word in ("Munich", "sleeps", "in", "2.5", ".")), EOS]
    hidden = mask_shared(german, english, {"München", "Munich"}, vocabulary)
    assert hidden[0] == [EOS, MASK, MASK, ids["schl@@"], ids["äft"], MASK, MASK, EOS]
    assert hidden[1] == [EOS, MASK, ids["sleeps"], MASK, MASK, MASK, EOS]


def test_hits_are_counted_layer_by_layer() -> None:
    vectors = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0))
    scaled = vectors * torch.arange(1, 31)[None, :, None]
    assert hits_per_layer(vectors, scaled) == [30, 30]
    swapped = scaled[:, [1, 0, *range(2, 30)]]
    assert hits_per_layer(vectors, torch.stack([scaled[0], swapped[1]])) == [30, 28]
    assert hits_per_layer(vectors, scaled.roll(1, dims=1)) == [0, 0]


def test_sentences_are_drawn_once_and_random_weights_do_not_find_them(prepared: Path) -> None:
    crumbs = crumbs_of(prepared)
    manifest = Manifest.load(crumbs)
    text = prepared_text_model(crumbs, manifest)
    models = {TRAINED: small_model(manifest.vocab_size)}
    subject = Subject(models, False, LANGUAGES, text.pipelines(), text.vocabulary, seed=3)
    shards = PairShards(crumbs, "train", manifest, max_tokens=64, max_length=64)
    plain, masked = draw_pairs(shards, 0, subject, {"Anna"}, 40)
    assert len(plain) == len(masked) == 40
    for pairs in (plain, masked):
        for side in range(2):
            assert len({tuple(pair[side]) for pair in pairs}) == 40
    assert any(MASK in pair[0] for pair in masked)
    assert not any(MASK in pair[0] for pair in plain)
    assert draw_pairs(shards, 0, subject, {"Anna"}, 40) == (plain, masked)
    assert draw_pairs(shards, 0, replace(subject, seed=4), {"Anna"}, 40) != (plain, masked)

    found, few = Findings(), Findings()
    add_sentence_retrieval(subject, shards, {"Anna"}, 40, found)
    (test,) = found.tests
    series = by_series(test)
    assert list(series) == [TRAINED, TRAINED + MASKED]
    assert {row.x for row in test.rows} == {0, 1, 2}
    assert test.chance == 1 / 40
    assert max(series[TRAINED + MASKED]) < 0.5
    add_sentence_retrieval(subject, shards, {"Anna"}, 10, few)
    assert not few.tests
    assert "only 10 pairs" in few.limits[0]


# --- probabilities --------------------------------------------------------------------------------
def test_the_differing_stretch_is_never_empty() -> None:
    assert differing([1, 7, 8, 1], [1, 7, 9, 1]) == ((2, 3), (2, 3))
    assert differing([1, 7, 1], [1, 5, 6, 7, 8, 1]) == ((1, 2), (1, 5))
    assert differing([1, 7, 1], [1, 6, 7, 1]) == ((1, 2), (1, 3))  # "un@@ kind" begins as "kind"


def test_odds_are_those_of_the_chain_rule() -> None:
    model = small_model(40)
    first, second = [EOS, 20, 21, 22, EOS], [EOS, 20, 23, 24, 22, EOS]

    @torch.no_grad()
    def log_p(tokens: list[int], place: int, token: int, causal: bool) -> float:
        hidden = model(torch.tensor([tokens]), torch.tensor([[1]]), causal=causal)
        return float(model.logits(hidden)[0, place].log_softmax(0)[token])

    whole = [
        sum(log_p(row, place, row[place + 1], True) for place in range(len(row) - 1))
        for row in (first, second)
    ]
    pairs = [(first, second), (second, first)]
    odds = log_odds(model, pairs, 1, causal=True)
    assert odds == pytest.approx([whole[0] - whole[1], whole[1] - whole[0]], abs=1e-4)

    one = log_p([EOS, 20, MASK, 22, EOS], 2, 21, False)
    other = log_p([EOS, 20, MASK, MASK, 22, EOS], 2, 23, False)
    other += log_p([EOS, 20, 23, MASK, 22, EOS], 3, 24, False)
    odds = log_odds(model, pairs, 1, causal=False)
    assert odds == pytest.approx([one - other, other - one], abs=1e-4)


# --- bias -----------------------------------------------------------------------------------------
def words_of_probes() -> list[str]:
    """Every word of every template, contrast and item, as Moses cuts them."""
    words = {"."}
    for language in LANGUAGES:
        for probe in bias_suite.read_probes(language):
            texts = [t.format(item="", contrast="") for t in probe.templates]
            texts += [side for sides in probe.contrasts for side in sides] + probe.all_items
            words |= {word for text in texts for word in text.replace(".", "").split()}
    return sorted(words)


def test_the_lists_are_balanced() -> None:
    for language in LANGUAGES:
        for probe in bias_suite.read_probes(language):
            groups = [len(items) for items in probe.items.values()]
            assert len(set(groups)) == 1
            assert all(len(sides) == 2 for sides in probe.contrasts)
            parts = [*probe.templates, *probe.all_items, *map(tuple, probe.contrasts)]
            assert len(parts) == len(set(parts))
            assert probe.is_enough
            for template in probe.templates:
                assert template.format(item="x", contrast="y").count("x") == 1
    german, english = (bias_suite.read_probes(language) for language in LANGUAGES)
    assert [probe.counts for probe in german] == [probe.counts for probe in english]


@pytest.mark.parametrize("causal", [True, False])
def test_a_preference_for_one_word_whatever_the_item_is_no_gap(causal: bool) -> None:
    subject = subject_of(words_of_probes(), causal=causal)
    model = subject.models[TRAINED]
    for name, parameter in model.named_parameters():
        parameter.data.zero_()
        if name == "output_bias":
            parameter.data.normal_(std=3, generator=torch.Generator().manual_seed(0))
    found = bias_suite.bias(subject)
    assert len(found.tests) == 6  # two probes in two languages, and what two lists differ by
    for test in found.tests:
        series = by_series(test)
        assert series[TRAINED] == pytest.approx([0] * len(series[TRAINED]), abs=1e-5)
        assert np.abs(series[RANDOM]).max() > 1e-4
    assert not [limit for limit in found.limits if "left out" in limit]


def test_the_difference_between_two_lists() -> None:
    occupation = bias_suite.read_probes("en")[0]
    first, _ = occupation.items
    gaps = np.random.default_rng(0).normal(size=(len(occupation.all_items), 15))
    gaps[: len(occupation.items[first])] += 2
    rows = [
        bias_suite.between_groups(occupation, "t", {TRAINED: table}, 0).rows[0]
        for table in (gaps, gaps - gaps.mean(axis=0))
    ]
    assert rows[0].value == pytest.approx(rows[1].value)  # what all items share is no matter
    assert rows[0].value == pytest.approx(2, abs=0.5)
    assert rows[0].low < rows[0].value - 0.1 < rows[0].value + 0.1 < rows[0].high < 3


def test_what_the_vocabulary_cannot_spell_is_left_out_and_told() -> None:
    words = [word for word in words_of_probes() if word not in {"nurse", "friendly", "Er"}]
    found = bias_suite.bias(subject_of(words))
    told = " ".join(found.limits)
    assert "Occupation and gender (en): the vocabulary spells 3 of 3 templates, 5 of 5" in told
    assert "15 of 16 items" in told
    assert "7 of 8 contrasts" in told
    assert "Field of work and gender (de): the vocabulary spells 3 of 3 templates, 4 of 5" in told
    (test,) = [test for test in found.tests if test.name == "occupation_gender_en"]
    assert "a nurse" not in {row.group for row in test.rows}
    nothing = bias_suite.bias(subject_of(["He", "works"]))
    assert not nothing.tests
    assert "too little is left for a figure" in " ".join(nothing.limits)


# --- the command ----------------------------------------------------------------------------------
def test_a_suite_on_own_text(prepared: Path, trained: Path, tmp_path: Path) -> None:
    crumbs = crumbs_of(prepared)
    words = (f"checkpoint={trained}", f"data.dir={crumbs}", "split=valid", "accelerator=cpu")
    result = call("xlm-evaluate", *words, "suite=crosslingual").expect().result
    assert (result["suite"], result["seed"], result["languages"]) == ("crosslingual", 0, LANGUAGES)
    told = " ".join(result["limits"])
    assert "give dictionary=FILE" in told
    assert "Agreement is left out" in told
    kept = trained / "evaluations" / "crosslingual.json"
    assert json.loads(kept.read_bytes()) == result

    dictionary = tmp_path / "words.tsv"
    dictionary.write_text("die\tthe\nim\tin\nin\tin\n")
    words += ("suite=crosslingual", "seed=5", f"dictionary={dictionary}")
    outcome = call("xlm-evaluate", *words).expect()
    assert json.loads(kept.read_bytes()) == outcome.result
    assert "identical_words" in {test["name"] for test in outcome.result["tests"]}
    assert "spelled the same" in outcome.stderr
    dictionary.write_text("die\tthe\nim in\n")
    refused = call("xlm-evaluate", *words).expect(2)
    assert f"dictionary={dictionary}, line 2" in refused.stderr


def test_bias_of_a_small_vocabulary_is_not_made_up(trained: Path) -> None:
    copied = trained / "checkpoints" / "last.ckpt"
    words = (f"checkpoint={copied}", "suite=bias", "accelerator=cpu")
    result = call("xlm-evaluate", *words).expect().result
    assert result["tests"] == []
    assert "too little is left" in " ".join(result["limits"])
    assert json.loads((trained / "evaluations" / "bias.json").read_bytes()) == result


def test_a_copied_checkpoint_leaves_nothing_beside_it(trained: Path, tmp_path: Path) -> None:
    """Its run folder is elsewhere, and so are codes and vocabulary."""
    folder = tmp_path / "some" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "x.ckpt").write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    refused = call("xlm-evaluate", f"checkpoint={folder / 'x.ckpt'}", "suite=bias").expect(2)
    assert "text.json is missing" in refused.stderr
    assert not (tmp_path / "some" / "evaluations").exists()


@pytest.mark.slow
def test_the_sample_corpus_has_every_test(prepared: Path, trained: Path) -> None:
    words = (f"checkpoint={trained}", f"data.dir={prepared}", "suite=crosslingual", "sentences=50")
    result = call("xlm-evaluate", *words, "accelerator=cpu").expect().result
    names = [test["name"] for test in result["tests"]]
    assert names == [
        *("identical_words", "word_translation", "word_translation_5"),
        *("sentence_retrieval_de-en", "agreement"),
    ]
    for test in result["tests"]:
        assert {"name", "title", "method", "metric", "unit", "chance", "rows"} <= set(test)
        assert ("x_name" in test) == (test["name"] == "sentence_retrieval_de-en")
    agreement = result["tests"][-1]["rows"]
    assert len(agreement) == 12
    assert all(row["low"] < 0.5 < row["high"] for row in agreement if row["series"] == RANDOM)
    again = call("xlm-evaluate", *words, "accelerator=cpu").expect().result
    assert again == result
