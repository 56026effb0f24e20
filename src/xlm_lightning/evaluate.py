"""`xlm-evaluate`: perplexity of a trained model on a prepared split, or on the user's own lines;
how well a split is translated; or what a suite of probes finds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from xlm_lightning import schema
from xlm_lightning.errors import UserError
from xlm_lightning.generation import translate_pairs
from xlm_lightning.machine import device_and_autocast, keep_freed_memory
from xlm_lightning.perplexity import TOKENS, empty_sums, score, summarise, to_perplexity
from xlm_lightning.pretrained import load_any
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.scored_folder import ScoredFolder
from xlm_lightning.sentence_scores import score_sequences
from xlm_lightning.streaming.original_evaluation import original_batches
from xlm_lightning.streaming.pair_evaluation import PairEvaluationBatches
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.splits import evaluation_batches
from xlm_lightning.streaming.translation_evaluation import TranslationEvaluationBatches
from xlm_lightning.streaming.turns import TLM
from xlm_lightning.suites.bias import bias
from xlm_lightning.suites.crosslingual import Material, crosslingual
from xlm_lightning.suites.results import table
from xlm_lightning.suites.subject import Subject
from xlm_lightning.suites.translation import read_dictionary
from xlm_lightning.text.files import read_text_lines
from xlm_lightning.text.vocabulary import EOS
from xlm_lightning.trained import TrainedModel
from xlm_lightning.trained_translator import TrainedTranslator
from xlm_lightning.translation_scores import TranslationScores

SEQUENCES = 16  # scored at once, where batch_size= does not say


def evaluate(config: schema.Evaluate) -> dict[str, Any]:
    """Score a split (by language or direction, and mean), or lines of text (each, and together)."""
    keep_freed_memory()
    trained = load_any(config.checkpoint, config.objective)
    _refuse_foreign_keys(config, trained)
    device, autocast = device_and_autocast(config.accelerator, config.precision)
    trained.model.to(device)
    with autocast:
        if isinstance(trained, TrainedTranslator):
            return _evaluate_translator(config, trained, device)
        if config.suite is not None:
            return _evaluate_suite(config, trained)
        if config.text is None and config.text_file is None:
            return _evaluate_split(config, trained, device)
        return _evaluate_lines(config, trained)


def _refuse_foreign_keys(
    config: schema.Evaluate, trained: TrainedModel | TrainedTranslator
) -> None:
    """Raise `UserError` for a key that means nothing to this kind of model."""
    kind, own = "language", "perplexity"
    ordinary: dict[str, Any] = {"beam": 1}
    if isinstance(trained, TrainedTranslator):
        kind, own = "translation", "translating a split (xlm-translate takes lines of text)"
        others = ("suite", "text", "text_file", "language", "objective")
        ordinary = {**dict.fromkeys(others), "definition": "ours"}
    for key, value in ordinary.items():
        given = getattr(config, key)
        if given != value:
            told = "..." if key == "text" else given  # which may be long
            raise UserError(
                f"{key}={told}: {trained.path} is a {kind} model, scored by {own}; leave {key}= out"
            )


def _evaluate_translator(
    config: schema.Evaluate, trained: TrainedTranslator, device: torch.device
) -> dict[str, Any]:
    """Translate parallel text both ways, greedily as at the end of the model's run, or better."""
    prepared = _open_folder(config, trained)
    prepared.fetch(parallel=True)
    max_tokens = trained.sentence_tokens or SEQUENCES * trained.stream_length
    if config.batch_size is not None:
        max_tokens = config.batch_size * trained.stream_length
    positions = trained.model.max_positions - 2  # two of them for `</s>`
    pairs = prepared.pairs(max_tokens=max_tokens, max_length=positions)
    names = pairs.directions
    if trained.directions and (others := sorted({*names} - {*trained.directions})):
        known = ", ".join(trained.directions)
        print(f"the model was trained for {known}, not for {', '.join(others)}", file=sys.stderr)
    scores = TranslationScores(trained.load_text_model().pipelines(), folder=None)
    sums = empty_sums(len(names), device)
    search: dict[str, Any] = {"beam": config.beam, "length_penalty": config.length_penalty}
    for batch in _loaded(TranslationEvaluationBatches(pairs), config.split, device):
        sums[batch["pair"]] += score(trained.model, batch)
        made_and_wanted = translate_pairs(trained.model, batch, **search)
        scores.add(names[batch["pair"]], batch["numbers"].tolist(), *made_and_wanted)
    figures = summarise(sums.cpu(), names, None)
    judged = scores.finish(lambda found: [found], split=config.split, draws_from=config.seed)
    result = {name: {**row, **judged[name]} for name, row in figures.items()}
    return _described(config, trained, prepared) | search | result


def _open_folder(
    config: schema.Evaluate, trained: TrainedModel | TrainedTranslator
) -> ScoredFolder:
    return ScoredFolder.open(trained, config.split, **asdict(config.data))


def _described(
    config: schema.Evaluate, trained: TrainedModel | TrainedTranslator, prepared: ScoredFolder
) -> dict[str, Any]:
    """What was scored."""
    where = {"split": config.split, "data_dir": prepared.data_dir}
    return {"checkpoint": str(trained.path), **where}


def _evaluate_split(
    config: schema.Evaluate, trained: TrainedModel, device: torch.device
) -> dict[str, Any]:
    prepared = _open_folder(config, trained)
    manifest = prepared.manifest
    prepared.fetch(parallel=trained.objective == TLM)
    names, row = trained.languages, "language"
    if trained.objective == TLM:
        prepared.require_parallel_text()
        names, row = sorted(manifest.parallel[config.split]), "pair"
    sums = empty_sums(len(names), device)
    for batch in _loaded(_batches(config, trained, prepared), config.split, device):
        sums[batch[row]] += score(trained.model, batch)
    bytes_per_token = manifest.bytes_per_token(config.split) if trained.causal else None
    result: dict[str, Any] = summarise(sums.cpu(), names, bytes_per_token)
    limit = manifest.limit.get(config.split) if trained.causal else None
    return _described(config, trained, prepared) | result | ({"limit": limit} if limit else {})


def _batches(config: schema.Evaluate, trained: TrainedModel, prepared: ScoredFolder) -> Any:
    rows = config.batch_size or SEQUENCES
    if trained.objective != TLM:
        text = (prepared.folder, config.split, trained.stream_length)
        shards = TokenShards(*text, prepared.manifest, prepared.mirror)
        batches_of = evaluation_batches if config.definition == "ours" else original_batches
        return batches_of(trained.objective, shards, rows)
    if config.definition == "xlm":
        raise UserError("definition=xlm: the original's figure for tlm is not known here")
    longest = trained.model.max_positions - 2
    pairs = prepared.pairs(max_tokens=rows * trained.stream_length, max_length=longest)
    return PairEvaluationBatches(pairs)


def _loaded(batches: Any, split: str, device: torch.device) -> Iterator[dict[str, Any]]:
    """The batches on `device`, with a bar."""
    loader = DataLoader(batches, batch_size=None, sampler=range(len(batches)))
    for batch in tqdm(loader, desc=f"scoring {split}", file=sys.stderr, disable=None):
        yield _to(batch, device)


def _to(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch on `device`, its tokens widened: uint16 has no embedding."""
    on_device = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
    ids = on_device.keys() & {"tokens", "source"}
    return on_device | {name: on_device[name].long() for name in ids}


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
    rows = config.batch_size or SEQUENCES
    for start in range(0, len(lines), rows):
        part = slice(start, start + rows)
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
    manifest = prepared.manifest
    sample = manifest.corpus.get("name") == "sample"
    if not manifest.parallel.get(config.split):
        missing = f"{prepared.data_dir} has no parallel text for split={config.split}"
        return Material(dictionary, parallel=None, missing=missing, sample=sample)
    prepared.fetch(parallel=True)
    longest = trained.model.max_positions
    parallel = prepared.pairs(max_tokens=longest, max_length=longest)
    return Material(dictionary, parallel, missing="", sample=sample)
