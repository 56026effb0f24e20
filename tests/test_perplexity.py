"""Sums and the figures made from them, against a calculation by hand and by torch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from xlm_lightning import perplexity
from xlm_lightning.cross_entropy import IGNORED
from xlm_lightning.model import XLM


def test_summary_of_two_languages() -> None:
    sums = torch.tensor([[math.log(8) * 100, 25, 100], [math.log(2) * 50, 50, 50]])
    result = perplexity.summarise(sums.double(), ["de", "en"], {"de": 3.0, "en": 2.0})
    assert result["de"]["perplexity"] == pytest.approx(8)
    assert result["de"]["accuracy"] == 0.25
    assert result["de"]["bits_per_byte"] == pytest.approx(1.0)  # 3 bits a token, 3 bytes a token
    assert result["en"]["bits_per_byte"] == pytest.approx(0.5)
    assert result["de"]["tokens"] == 100
    assert result["mean"]["perplexity"] == pytest.approx(5)  # of perplexities, as in the original


def test_a_language_without_tokens_is_left_out() -> None:
    result = perplexity.summarise(
        torch.tensor([[0.0, 0, 0], [math.log(2), 0, 1]]), ["de", "en"], {"en": 1.0}
    )
    assert set(result) == {"en", "mean"}


def test_scores_equal_torch_and_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = XLM(vocab_size=70, num_languages=2, layers=1, dim=16, heads=2).eval()
    tokens, language = torch.randint(14, 70, (3, 20)), torch.tensor([[1]])
    targets = torch.randint(14, 70, (3, 20))
    targets[1, 5:] = IGNORED
    batch = {"tokens": tokens, "targets": targets, "language": 1, "objective": "clm"}
    whole = perplexity.score(model, batch)
    logits = model.logits(model(tokens, language)).detach()
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    hits = int((logits.argmax(-1) == targets).sum())
    assert whole.tolist() == pytest.approx([float(nll), hits, 45], rel=1e-6)
    monkeypatch.setattr(perplexity, "LOGITS_PER_STRIP", 70 * 7)
    assert perplexity.score(model, batch).tolist() == pytest.approx(whole.tolist())
