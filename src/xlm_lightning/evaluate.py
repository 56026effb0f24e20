"""`xlm-evaluate`: perplexity of a trained model on a prepared split, or on the user's own lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from xlm_lightning import schema
from xlm_lightning.cross_entropy import IGNORED
from xlm_lightning.errors import UserError
from xlm_lightning.machine import device_and_autocast, keep_freed_memory
from xlm_lightning.manifest import Manifest
from xlm_lightning.model import PAD_ID
from xlm_lightning.perplexity import empty_sums, score, score_tokens, summarise
from xlm_lightning.pretrained import load_model
from xlm_lightning.streaming.evaluation import EvaluationBatches
from xlm_lightning.streaming.original_evaluation import OriginalEvaluationBatches
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.text.vocabulary import EOS, Vocabulary
from xlm_lightning.trained import TrainedModel


def evaluate(config: schema.Evaluate) -> dict[str, Any]:
    """Score a split (per language and mean), or lines of text (each, and together)."""
    keep_freed_memory()
    trained = load_model(config.checkpoint, config.objective)
    trained.require_causal()
    device, autocast = device_and_autocast(config.accelerator, config.precision)
    trained.model.to(device)
    with autocast:
        if config.text is None and config.text_file is None:
            return _evaluate_split(config, trained, device)
        return _evaluate_lines(config, trained, device)


def _evaluate_split(
    config: schema.Evaluate, trained: TrainedModel, device: torch.device
) -> dict[str, Any]:
    folder = Path(config.data.dir) if config.data.dir is not None else trained.data_folder
    if folder is None:
        raise UserError("data.dir=null: say data.dir=DIR, the prepared folder to score")
    manifest = Manifest.load(folder)
    _check_fit(trained, manifest, folder, config.split)
    shards = TokenShards(folder, config.split, trained.stream_length, manifest)
    batches: EvaluationBatches | OriginalEvaluationBatches = (
        EvaluationBatches(shards, config.batch_size)
        if config.definition == "ours"
        else OriginalEvaluationBatches(shards, config.batch_size)
    )
    sums = empty_sums(len(trained.languages), device)
    loader = DataLoader(batches, batch_size=None, sampler=range(len(batches)))
    for batch in tqdm(loader, desc=f"scoring {config.split}", file=sys.stderr, disable=None):
        language = torch.tensor([[batch["language"]]], device=device)
        tokens, targets = batch["tokens"].long().to(device), batch["targets"].to(device)
        sums[batch["language"]] += score(trained.model, tokens, targets, language)
    bytes_per_token = manifest.bytes_per_token(config.split)
    result: dict[str, Any] = summarise(sums.cpu(), trained.languages, bytes_per_token)
    described = {"checkpoint": str(trained.path), "split": config.split, "data_dir": str(folder)}
    limit = manifest.limit.get(config.split)
    return described | result | ({"limit": limit} if limit else {})


def _check_fit(trained: TrainedModel, manifest: Manifest, folder: Path, split: str) -> None:
    if manifest.vocab_size != trained.model.arguments["vocab_size"]:
        raise UserError(
            f"data.dir={folder} has {manifest.vocab_size} token ids, the model "
            f"{trained.model.arguments['vocab_size']}: prepare the text with the model's own codes "
            "and vocabulary (xlm-prepare bpe.codes=FILE bpe.vocab=FILE)"
        )
    if Vocabulary.load(folder / "vocab").words != trained.load_text_model().vocabulary.words:
        raise UserError(
            f"data.dir={folder} was encoded with other words than the model's: prepare the text "
            "with the model's own codes and vocabulary (xlm-prepare bpe.codes=FILE bpe.vocab=FILE)"
        )
    if manifest.languages != trained.languages:
        raise UserError(
            f"data.dir={folder} holds {', '.join(manifest.languages)}, the model was trained on "
            f"{', '.join(trained.languages)}"
        )
    if not manifest.splits.get(split):
        raise UserError(f"data.dir={folder} has no split {split}; it has {list(manifest.splits)}")


def _evaluate_lines(
    config: schema.Evaluate, trained: TrainedModel, device: torch.device
) -> dict[str, Any]:
    """Each line is a text of its own, from `</s>` to `</s>`."""
    language = trained.language_id(config.language)
    pipeline = trained.load_text_model().pipelines()[trained.languages[language]]
    lines = list(_lines(config))
    sequences = [[EOS, *pipeline.encode(line), EOS] for line in lines]
    limit = trained.model.max_positions + 1
    for number, sequence in enumerate(sequences, start=1):
        if len(sequence) > limit:
            raise UserError(
                f"line {number} has {len(sequence)} tokens, the model reads {limit} at most"
            )
    scores: list[dict[str, Any]] = []
    for start in range(0, len(lines), config.batch_size):
        part = slice(start, start + config.batch_size)
        nats = _score_sequences(trained, sequences[part], language, device)
        for line, sequence, nll in zip(lines[part], sequences[part], nats, strict=True):
            scores.append({"text": line, "nll_nats": nll, "tokens": len(sequence) - 1})
    sums = empty_sums(len(trained.languages))
    total_bytes = sum(len(line.encode()) + 1 for line in lines)
    for row in scores:
        row["perplexity"] = float(torch.tensor(row["nll_nats"] / row["tokens"]).exp())
    total_tokens = sum(row["tokens"] for row in scores)
    sums[language] = torch.tensor([sum(row["nll_nats"] for row in scores), 0, total_tokens])
    name = trained.languages[language]
    figures = summarise(sums, trained.languages, {name: total_bytes / max(1, total_tokens)})
    figures.get(name, {}).pop("accuracy", None)
    return {"checkpoint": str(trained.path), **figures, "lines": scores}


def _score_sequences(
    trained: TrainedModel, sequences: Sequence[Sequence[int]], language: int, device: torch.device
) -> list[float]:
    """-ln p in nats of each sequence after its first token; shorter ones are padded behind."""
    longest = max(len(sequence) for sequence in sequences) - 1
    tokens = torch.full((len(sequences), longest), PAD_ID)
    targets = torch.full((len(sequences), longest), IGNORED)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        targets[row, : len(sequence) - 1] = torch.tensor(sequence[1:])
    nll, _ = score_tokens(
        trained.model,
        tokens.to(device),
        targets.to(device),
        torch.tensor([[language]], device=device),
    )
    return [float(row) for row in nll.sum(1)]


def _lines(config: schema.Evaluate) -> Iterator[str]:
    if config.text is not None:
        yield config.text
        return
    assert config.text_file is not None
    path = Path(config.text_file)
    try:
        # Not splitlines(): it also breaks at U+2028 and other characters inside a line.
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"text_file={path}: not UTF-8 at byte {error.start}") from error
    if not content.strip():
        raise UserError(f"text_file={path} is empty")
    yield from content.removesuffix("\n").split("\n")
