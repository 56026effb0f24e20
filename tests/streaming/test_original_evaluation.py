"""The original's evaluation, written down once more as its program does it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xlm_lightning.manifest import Manifest
from xlm_lightning.model import XLM
from xlm_lightning.perplexity import empty_sums, score, summarise
from xlm_lightning.streaming.original_evaluation import OriginalEvaluationBatches
from xlm_lightning.streaming.shards import TokenShards

EOS = 1


def columns(text: NDArray[np.uint16], bptt: int) -> NDArray[np.int64]:
    """The original's buffer for batch size 1: rows of one token, an EOS row in front."""
    batches = math.ceil(len(text) / bptt)
    buffer = np.zeros(batches * bptt, np.int64) + EOS
    buffer[-len(text) :] = text
    return np.concatenate([[EOS], buffer])


@pytest.mark.parametrize("length", [8, 64, 256])
@torch.no_grad()
def test_perplexity_and_accuracy_are_the_original_s(small_folder: Path, length: int) -> None:
    torch.manual_seed(0)
    manifest = Manifest.load(small_folder)
    shards = TokenShards(small_folder, "test", length, manifest)
    model = XLM(vocab_size=64, num_languages=2, layers=1, dim=16, heads=2).eval()
    sums = empty_sums(2)
    batches = OriginalEvaluationBatches(shards, batch_size=3)
    for batch in (batches[index] for index in range(len(batches))):
        sums[batch["language"]] += score(model, {**batch, "tokens": batch["tokens"].long()})
    ours = summarise(sums, shards.languages, {"de": 1.0, "en": 1.0})
    for index, language in enumerate(shards.languages):
        text = columns(shards.read_span(language, 0, shards.length(language)), length)
        nats, words, hits = 0.0, 0, 0
        for start in range(0, len(text) - length, length):
            x = torch.from_numpy(text[start : start + length])[None]
            scores = model.logits(model(x, torch.tensor([[index]])))[0, :-1]
            nats += float(torch.nn.functional.cross_entropy(scores, x[0, 1:], reduction="sum"))
            hits += int((scores.argmax(1) == x[0, 1:]).sum())
            words += length - 1
        assert ours[language]["tokens"] == words
        assert ours[language]["perplexity"] == pytest.approx(math.exp(nats / words), rel=1e-6)
        assert ours[language]["accuracy"] == pytest.approx(hits / words)


def test_a_block_shorter_than_the_text_and_one_of_its_length(small_folder: Path) -> None:
    """256 tokens in one block of 256: the first is read, the last is not."""
    shards = TokenShards(small_folder, "test", 256, Manifest.load(small_folder))
    batches = OriginalEvaluationBatches(shards, batch_size=9)
    english = batches[len(batches) - 1]
    text = shards.read_span("en", 0, 256).astype(np.int64)
    assert english["tokens"][0, 0] == EOS
    assert english["targets"][0].tolist() == text[:-1].tolist()
