"""`xlm-evaluate`: perplexity of a trained model on a prepared split, or on the user's own lines; or
what a suite of probes finds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from xlm_lightning import schema
from xlm_lightning.errors import UserError
from xlm_lightning.machine import device_and_autocast, keep_freed_memory
from xlm_lightning.manifest import Manifest
from xlm_lightning.perplexity import TOKENS, empty_sums, score, summarise, to_perplexity
from xlm_lightning.pretrained import load_model
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.sentence_scores import score_sequences
from xlm_lightning.streaming.mirror import Mirror, mirror_of
from xlm_lightning.streaming.original_evaluation import original_batches
from xlm_lightning.streaming.pair_evaluation import PairEvaluationBatches
from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.splits import evaluation_batches
from xlm_lightning.streaming.turns import TLM
from xlm_lightning.suites.bias import bias
from xlm_lightning.suites.crosslingual import Material, crosslingual
from xlm_lightning.suites.results import table
from xlm_lightning.suites.subject import Subject
from xlm_lightning.suites.translation import read_dictionary
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
        if config.suite is not None:
            return _evaluate_suite(config, trained)
        if config.text is None and config.text_file is None:
            return _evaluate_split(config, trained, device)
        return _evaluate_lines(config, trained)


@dataclass(frozen=True)
class _Prepared:
    """A prepared folder, or the mirror of one, that fits the model."""

    data_dir: str  # as it was named
    folder: Path
    manifest: Manifest
    mirror: Mirror | None


def _open_folder(config: schema.Evaluate, trained: TrainedModel) -> _Prepared:
    data = config.data
    data_dir = data.dir or trained.data_dir
    if data_dir is None:
        raise UserError("data.dir=null: say data.dir=DIR, the prepared folder to score")
    mirror = mirror_of(data_dir, Path(data.cache_dir), data.cache_gb, data.retry_minutes)
    folder = Path(data_dir) if mirror is None else mirror.folder
    manifest = Manifest.load(folder) if mirror is None else mirror.manifest
    _check_fit(trained, manifest, folder, data_dir, config.split)
    return _Prepared(data_dir, folder, manifest, mirror)


def _evaluate_split(
    config: schema.Evaluate, trained: TrainedModel, device: torch.device
) -> dict[str, Any]:
    prepared = _open_folder(config, trained)
    folder, manifest, mirror = prepared.folder, prepared.manifest, prepared.mirror
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
    where = {"split": config.split, "data_dir": prepared.data_dir}
    described = {"checkpoint": str(trained.path), **where}
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


def _evaluate_lines(config: schema.Evaluate, trained: TrainedModel) -> dict[str, Any]:
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
        nll, hits = score_sequences(trained.model, sequences[part], language)
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


def _evaluate_suite(config: schema.Evaluate, trained: TrainedModel) -> dict[str, Any]:
    """Put a suite of probes to a model; a run folder keeps what is found, for its report."""
    assert config.suite is not None
    subject = Subject.of(trained, config.seed)
    if config.suite == "bias":
        found = bias(subject)
    else:
        found = crosslingual(subject, _material(config, trained), config.sentences)
    result = {
        "suite": config.suite,
        "seed": config.seed,
        "checkpoint": str(trained.path),
        "languages": trained.languages,
        **found.to_json(),
    }
    print("\n".join(table(found)), file=sys.stderr)
    run = RunFolder(trained.path.parent.parent)
    if trained.path.parent == run.checkpoints and run.config() is not None:
        try:
            run.write_evaluation(config.suite, result)
        except OSError as error:  # somebody else's run
            print(f"not kept in {run.path}: {error.strerror}", file=sys.stderr)
    return result


def _material(config: schema.Evaluate, trained: TrainedModel) -> Material:
    """What there is to ask with; a folder that the user has not named may be missing."""
    dictionary = None
    if config.dictionary is not None:
        if len(trained.languages) != 2:
            raise UserError(
                f"dictionary={config.dictionary}: has words of two languages, the model has "
                f"{', '.join(trained.languages)}"
            )
        dictionary = read_dictionary(Path(config.dictionary))
    try:
        prepared = _open_folder(config, trained)
    except UserError as error:
        if config.data.dir is not None:
            raise
        return Material(dictionary, parallel=None, missing=str(error), sample=False)
    manifest, mirror = prepared.manifest, prepared.mirror
    sample = manifest.corpus.get("name") == "sample"
    if not manifest.parallel.get(config.split):
        missing = f"{prepared.data_dir} has no parallel text for split={config.split}"
        return Material(dictionary, parallel=None, missing=missing, sample=sample)
    if mirror is not None:
        mirror.fetch_at_start(manifest.read_files(config.split, parallel=True))
    longest = trained.model.max_positions
    parallel = PairShards(
        prepared.folder, config.split, manifest, mirror, max_tokens=longest, max_length=longest
    )
    return Material(dictionary, parallel, missing="", sample=sample)
