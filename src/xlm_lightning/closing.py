"""The end of a run: all of valid and test scored, and what a person reads of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch

from xlm_lightning import schema
from xlm_lightning.checkpoint import model_weights, read_checkpoint
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.generation import generate
from xlm_lightning.manifest import Manifest
from xlm_lightning.model import XLM
from xlm_lightning.perplexity import perplexities
from xlm_lightning.recall import changes
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.sharding import load_weights, whole_model
from xlm_lightning.streaming.turns import CLM
from xlm_lightning.task import LanguageModeling
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.vocabulary import Vocabulary
from xlm_lightning.translator import Translator
from xlm_lightning.word_map import word_map

SENTENCES = 200  # written per language; a share of 90 % is then known to 4 points (95 %)
SHOWN = 3
COUNTED_TOKENS = 2_000_000  # of valid text, to find the frequent words of a language


def conclude(
    trainer: pl.Trainer,
    task: LanguageModeling,
    data: StreamingDataModule,
    best: str,
    run: RunFolder,
    pipelines: Mapping[str, TextPipeline],
    samples: schema.Samples,
) -> dict[str, Any]:
    """Score with the best weights, let them write, and keep their words; return the figures.

    All ranks score; the first one does the rest.
    """
    results = score_splits(trainer, task, data, best)
    model = whole_model(task, task.model)
    if trainer.is_global_zero:
        results |= show_results(
            results, model, task.objectives, pipelines, data.manifest, samples, task.seed
        )
        shards = data.shards("valid")
        counts = {name: shards.counts(name, COUNTED_TOKENS) for name in task.languages}
        vocabulary = Vocabulary.load(data.folder / "vocab")
        embeddings = (model if isinstance(model, XLM) else model.encoder).tokens.weight
        run.write_words(word_map(embeddings, vocabulary, counts))
    return results


def score_splits(
    trainer: pl.Trainer, task: LanguageModeling, data: StreamingDataModule, best: str
) -> dict[str, Any]:
    """Score valid and test, whole, with the best weights, beside the corpus's own limit."""
    if trainer.is_global_zero:
        print("scoring all of valid and test with the best weights", file=sys.stderr)
    if best:
        load_weights(task, task.model, model_weights(read_checkpoint(Path(best))))
    results: dict[str, Any] = {}
    trainer.validate(task, data, verbose=False)
    results["valid"] = task.results
    if "test" in data.manifest.splits:
        trainer.test(task, data, verbose=False)
        results["test"] = task.results
    if data.manifest.limit and task.objectives[0] == CLM:
        results["limit"] = data.manifest.limit["valid"]
    return results


def show_results(
    summary: Mapping[str, Any],
    model: XLM | Translator,
    objectives: Sequence[str],
    pipelines: Mapping[str, TextPipeline],
    manifest: Manifest,
    samples: schema.Samples,
    seed: int,
) -> dict[str, Any]:
    """Print the figures and some text of the model's own; return the share that is grammatical.

    Only a causal model writes text.
    """
    if CLM not in objectives or not isinstance(model, XLM):
        print("\n".join(closing_lines(summary, {})), file=sys.stderr)
        return {}
    sentences = write_sentences(
        model,
        pipelines,
        temperature=samples.temperature,
        top_k=samples.top_k,
        seed=seed,
    )
    shares = grammatical_shares(sentences, pipelines, manifest)
    added = {"grammatical": shares} if shares else {}
    texts = {
        name: [pipelines[name].decode(ids) for ids in rows] for name, rows in sentences.items()
    }
    print("\n".join(closing_lines({**summary, **added}, texts)), file=sys.stderr)
    return added


def say_what_goes_on(
    checkpoint: Path, before: Mapping[str, Any] | None, now: Mapping[str, Any]
) -> None:
    """Print where a run goes on, and each key that has another value than before."""
    print(f"going on from {checkpoint}", file=sys.stderr)
    for change in [] if before is None else changes(before, now):
        print(f"  changed: {change}", file=sys.stderr)


def say_how_to_resume(command: Sequence[str], run: RunFolder) -> None:
    """Print the command that goes on."""
    others = [word for word in command if not word.startswith(("run.dir=", "resume="))]
    line = shlex.join([*others, f"run.dir={run.path}"])
    print(f"stopped; go on with\n  {line}", file=sys.stderr)


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
    tested = dict(perplexities(summary.get("test", {})))
    for name, valid in perplexities(summary["valid"]):
        limit = summary.get("limit", {}).get(name, {}).get("perplexity")
        row = f"{name:10} {valid:8.3f} "
        row += f"{tested[name]:8.3f}" if name in tested else " " * 8
        if limit:
            row += f" {limit:8.3f} {valid / limit:12.3f}"
        lines.append(row)
    lines += _bleu_lines(summary)
    for language, share in summary.get("grammatical", {}).items():
        lines.append(
            f"{language}: the grammar accepts {share:.0%} of {SENTENCES} sentences, drawn as those "
            "of samples.md"
        )
    for language, sentences in texts.items():
        lines += ["", *(f"  {language}  {sentence}" for sentence in sentences[:SHOWN])]
    return lines


def _bleu_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Scores of translations, with the signature that makes them comparable."""
    for name, row in summary["valid"].items():
        if "bleu" in row:
            tested = summary.get("test", {}).get(name, {})
            told = f"{name:10} {row['bleu']:8.2f} "
            told += f"{tested['bleu']:8.2f} " if tested else " " * 9
            signature = row.get("bleu_signature")
            yield told + "BLEU" + (f" ({signature})" if signature else "")
