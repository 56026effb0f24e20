"""`xlm-evaluate`: perplexity of a trained model on a prepared split, or on the user's own lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from xlm_lightning import schema
from xlm_lightning.cross_entropy import IGNORED
from xlm_lightning.errors import UserError
from xlm_lightning.machine import device_and_autocast, keep_freed_memory
from xlm_lightning.manifest import Manifest
from xlm_lightning.model import PAD_ID
from xlm_lightning.objectives import predictions
from xlm_lightning.perplexity import (
    TOKENS,
    empty_sums,
    score,
    score_tokens,
    summarise,
    to_perplexity,
)
from xlm_lightning.pretrained import load_model
from xlm_lightning.streaming.mirror import Mirror, mirror_of
from xlm_lightning.streaming.original_evaluation import original_batches
from xlm_lightning.streaming.pair_evaluation import PairEvaluationBatches
from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.splits import evaluation_batches
from xlm_lightning.streaming.turns import CLM, TLM
from xlm_lightning.text.files import read_text_lines
from xlm_lightning.text.vocabulary import EOS, Vocabulary
from xlm_lightning.trained import TrainedModel


def evaluate(config: schema.Evaluate) -> dict[str, Any]:
    """Score a split (per language and mean), or lines of text (each, and together)."""
    keep_freed_memory()
    trained = load_model(config.checkpoint, config.objective)
    device, autocast = device_and_autocast(config.accelerator, config.precision)
    trained.model.to(device)
    with autocast:
        if config.text is None and config.text_file is None:
            return _evaluate_split(config, trained, device)
        return _evaluate_lines(config, trained, device)


def _evaluate_split(
    config: schema.Evaluate, trained: TrainedModel, device: torch.device
) -> dict[str, Any]:
    data = config.data
    data_dir = data.dir or trained.data_dir
    if data_dir is None:
        raise UserError("data.dir=null: say data.dir=DIR, the prepared folder to score")
    mirror = mirror_of(data_dir, Path(data.cache_dir), data.cache_gb, data.retry_minutes)
    folder = Path(data_dir) if mirror is None else mirror.folder
    manifest = Manifest.load(folder) if mirror is None else mirror.manifest
    _check_fit(trained, manifest, folder, data_dir, config.split)
    if mirror is not None:
        mirror.fetch_at_start(manifest.read_files(config.split, parallel=trained.objective == TLM))
    batches = _batches(config, trained, folder, manifest, mirror)
    names, row = trained.languages, "language"
    if trained.objective == TLM:
        names, row = sorted(manifest.parallel[config.split]), "pair"
    sums = empty_sums(len(names), device)
    loader = DataLoader(batches, batch_size=None, sampler=range(len(batches)))
    for batch in tqdm(loader, desc=f"scoring {config.split}", file=sys.stderr, disable=None):
        sums[batch[row]] += score(trained.model, _to(batch, device))
    bytes_per_token = manifest.bytes_per_token(config.split) if trained.causal else None
    result: dict[str, Any] = summarise(sums.cpu(), names, bytes_per_token)
    described = {"checkpoint": str(trained.path), "split": config.split, "data_dir": data_dir}
    limit = manifest.limit.get(config.split) if trained.causal else None
    return described | result | ({"limit": limit} if limit else {})


def _batches(
    config: schema.Evaluate,
    trained: TrainedModel,
    folder: Path,
    manifest: Manifest,
    mirror: Mirror | None,
) -> Any:
    if trained.objective != TLM:
        shards = TokenShards(folder, config.split, trained.stream_length, manifest, mirror)
        batches_of = evaluation_batches if config.definition == "ours" else original_batches
        return batches_of(trained.objective, shards, config.batch_size)
    if config.definition == "xlm":
        raise UserError("definition=xlm: the original's figure for tlm is not known here")
    if not manifest.parallel.get(config.split):
        raise UserError(f"data.dir={folder} has no parallel text for split={config.split}")
    pairs = PairShards(
        folder,
        config.split,
        manifest,
        mirror,
        max_tokens=config.batch_size * trained.stream_length,
        max_length=trained.model.max_positions - 2,
    )
    return PairEvaluationBatches(pairs)


def _to(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch on `device`, its tokens widened: uint16 has no embedding."""
    on_device = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
    return {**on_device, "tokens": on_device["tokens"].long()}


def _check_fit(
    trained: TrainedModel, manifest: Manifest, folder: Path, data_dir: str, split: str
) -> None:
    if manifest.vocab_size != trained.model.arguments["vocab_size"]:
        raise UserError(
            f"data.dir={data_dir} has {manifest.vocab_size} token ids, the model "
            f"{trained.model.arguments['vocab_size']}: prepare the text with the model's own codes "
            "and vocabulary (xlm-prepare bpe.codes=FILE bpe.vocab=FILE)"
        )
    if Vocabulary.load(folder / "vocab").words != trained.load_text_model().vocabulary.words:
        raise UserError(
            f"data.dir={data_dir} was encoded with other words than the model's: prepare the text "
            "with the model's own codes and vocabulary (xlm-prepare bpe.codes=FILE bpe.vocab=FILE)"
        )
    if manifest.languages != trained.languages:
        raise UserError(
            f"data.dir={data_dir} holds {', '.join(manifest.languages)}, the model was trained on "
            f"{', '.join(trained.languages)}"
        )
    if not manifest.splits.get(split):
        raise UserError(f"data.dir={data_dir} has no split {split}; it has {list(manifest.splits)}")


def _evaluate_lines(
    config: schema.Evaluate, trained: TrainedModel, device: torch.device
) -> dict[str, Any]:
    """Each line is a text of its own, from `</s>` to `</s>`."""
    trained.require_causal()
    language = trained.language_id(config.language)
    pipeline = trained.load_text_model().pipelines()[trained.languages[language]]
    if config.text_file is not None:
        lines = read_text_lines(Path(config.text_file), "text_file")
    else:
        assert config.text is not None
        lines = [config.text]
    sequences = [[EOS, *pipeline.encode(line), EOS] for line in lines]
    limit = trained.model.max_positions + 1
    for number, sequence in enumerate(sequences, start=1):
        if len(sequence) > limit:
            raise UserError(
                f"line {number} has {len(sequence)} tokens, the model reads {limit} at most"
            )
    sums = empty_sums(len(trained.languages))
    scores: list[dict[str, Any]] = []
    for start in range(0, len(lines), config.batch_size):
        part = slice(start, start + config.batch_size)
        nll, hits = _score_sequences(trained, sequences[part], language, device)
        for line, sequence, nats in zip(lines[part], sequences[part], nll, strict=True):
            count = len(sequence) - 1
            perplexity = to_perplexity(nats / count)
            scores.append(
                {"text": line, "nll_nats": nats, "tokens": count, "perplexity": perplexity}
            )
        sums[language] += torch.tensor([sum(nll), hits, 0], dtype=torch.float64)
    sums[language, TOKENS] = total_tokens = sum(row["tokens"] for row in scores)
    total_bytes = sum(len(line.encode()) + 1 for line in lines)
    bytes_per_token = {trained.languages[language]: total_bytes / total_tokens}
    figures = summarise(sums, trained.languages, bytes_per_token)
    return {"checkpoint": str(trained.path), **figures, "lines": scores}


def _score_sequences(
    trained: TrainedModel, sequences: Sequence[Sequence[int]], language: int, device: torch.device
) -> tuple[list[float], int]:
    """-ln p in nats of each sequence after its first token, and all tokens that were guessed.

    Shorter sequences are padded behind, where a causal model does not look.
    """
    longest = max(len(sequence) for sequence in sequences) - 1
    tokens = torch.full((len(sequences), longest), PAD_ID)
    targets = torch.full((len(sequences), longest), IGNORED)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        targets[row, : len(sequence) - 1] = torch.tensor(sequence[1:])
    batch = {
        "tokens": tokens.to(device),
        "targets": targets.to(device),
        "language": language,
        "objective": CLM,
    }
    nll, hits = score_tokens(trained.model, *predictions(trained.model, batch))
    per_row = torch.zeros(targets.shape, dtype=nll.dtype, device=device)
    per_row[batch["targets"] != IGNORED] = nll
    return per_row.sum(1).tolist(), int(hits.sum())
