"""`make train`'s recipe, whole: near the true entropy in both languages, in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run


@pytest.mark.slow
def test_the_sample_experiment_reaches_the_limit(tmp_path: Path) -> None:
    summary = run("xlm-train", "experiment=sample", cwd=tmp_path, timeout=3000).expect().result
    for language in ("de", "en"):
        limit = summary["limit"][language]["perplexity"]
        # Below 1 would mean that the limit is wrong, or that valid text leaked into train.
        assert 1.0 < summary["valid"][language]["perplexity"] / limit <= 1.10
        assert summary["grammatical"][language] >= 0.80
