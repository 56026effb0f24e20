"""What a person reads at the end of a run: perplexity beside the limit, and text of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from xlm_lightning.generation import generate
from xlm_lightning.manifest import Manifest
from xlm_lightning.model import XLM
from xlm_lightning.text.pipeline import TextPipeline

SENTENCES = 200  # written per language; a share of 90 % is then known to 4 points (95 %)
SHOWN = 3


def write_sentences(
    model: XLM,
    pipelines: Mapping[str, TextPipeline],
    *,
    temperature: float,
    top_k: int,
    seed: int,
) -> dict[str, list[list[int]]]:
    """Sample sentences as ids in every language, drawn as the run's samples are."""
    device = model.tokens.weight.device
    return {
        language: generate(
            model,
            [],
            language=index,
            num_samples=SENTENCES,
            max_new_tokens=100,
            temperature=temperature,
            top_k=top_k or None,
            generator=torch.Generator(device).manual_seed(seed),
        )
        for index, language in enumerate(pipelines)
    }


def grammatical_shares(
    sentences: Mapping[str, Sequence[Sequence[int]]],
    pipelines: Mapping[str, TextPipeline],
    manifest: Manifest,
) -> dict[str, float]:
    """Share of the sentences that the sample corpus's grammar accepts; empty for other corpora."""
    if manifest.corpus.get("name") != "sample":
        return {}
    from data_prep.sample import accepts  # the only corpus that has a grammar

    return {
        language: sum(accepts(pipelines[language].decode(ids), cast(Any, language)) for ids in rows)
        / len(rows)
        for language, rows in sentences.items()
    }


def closing_lines(summary: Mapping[str, Any], texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines for the terminal."""
    lines = ["", f"{'':10} {'valid':>8} {'test':>8} {'limit':>8} {'valid/limit':>12}  perplexity"]
    for language, figures in summary["valid"].items():
        limit = summary.get("limit", {}).get(language)
        test = summary.get("test", {}).get(language, {}).get("perplexity")
        row = f"{language:10} {figures['perplexity']:8.3f} " + (f"{test:8.3f}" if test else " " * 8)
        if limit:
            row += (
                f" {limit['perplexity']:8.3f} {figures['perplexity'] / limit['perplexity']:12.3f}"
            )
        lines.append(row)
    for language, share in summary.get("grammatical", {}).items():
        lines.append(
            f"{language}: the grammar accepts {share:.0%} of {SENTENCES} sentences, drawn as those "
            "of samples.md"
        )
    for language, sentences in texts.items():
        lines += ["", *(f"  {language}  {sentence}" for sentence in sentences[:SHOWN])]
    return lines
