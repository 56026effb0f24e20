"""The end of a preparation: check the whole, write `inputs.json` and, last of all, the manifest."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.inputs import Inputs
from data_prep.learning import TextModel
from data_prep.lines import ANOMALIES
from data_prep.progress import note
from data_prep.reading import sha256_of
from data_prep.settings import TOOL_VERSIONS, Settings
from data_prep.shards import ShardResult
from data_prep.workspace import INPUTS_NAME, WORK_NAME, remove_strangers
from xlm_lightning.atomic import write_json
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import BLOCK_LENGTH, MANIFEST_NAME, Manifest, Shard
from xlm_lightning.text.vocabulary import Vocabulary

COUNTS = ("lines", "tokens", "unknown", "documents", "raw_bytes", "dropped_tail")
WAY_OUT = "give another out= or delete this folder"


@dataclass(frozen=True)
class Corpus:
    """Facts about the source, and its true entropy where that is known."""

    facts: Mapping[str, Any]
    nll_nats: Mapping[str, Mapping[str, float]]  # split -> language -> -ln P of the text


def publish(
    out: Path,
    settings: Settings,
    text_model: TextModel,
    files: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    results: Sequence[ShardResult],
    corpus: Corpus,
) -> None:
    """Make `out` a prepared folder. Raises `UserError` when a language came out empty."""
    splits, anomalies = _gather(files, results)
    manifest = Manifest(
        vocab_size=len(Vocabulary.load(text_model.vocabulary)),
        vocab_sha256=text_model.vocab_sha256,
        codes_sha256=text_model.codes_sha256,
        text={
            "mode": settings.mode,
            "lowercase_and_remove_accent": settings.lowercase_and_remove_accent,
            "invalid_utf8": settings.policy.invalid_utf8,
            "max_word_length": settings.policy.max_word_length,
            "versions": TOOL_VERSIONS,
        },
        splits=splits,
        corpus=dict(corpus.facts),
        limit=_limit(corpus, splits),
        anomalies=anomalies,
    )
    remove_strangers(
        out, {name for shard in manifest.shards() for name in (shard.name, shard.docs_name)}
    )
    write_json(out / INPUTS_NAME, {"settings": settings.described(), "files": files})
    manifest.save(out)
    shutil.rmtree(out / WORK_NAME)


def describe_files(
    inputs: Inputs, hashes: Mapping[Path, str]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Name, size and hash of each input file as it is stored: what a later run is compared with.

    Neither folders nor times, so the same text gives the same prepared folder anywhere.
    """
    return {
        split: {
            language: [
                {"name": path.name, "bytes": path.stat().st_size, "sha256": hashes[path]}
                for path in paths
            ]
            for language, paths in languages.items()
        }
        for split, languages in inputs.items()
    }


def is_finished(out: Path, settings: Settings, inputs: Inputs) -> bool:
    """Whether `out` already holds what these settings and files give.

    Raises `UserError` naming the first difference when it holds something else.
    """
    if not (out / MANIFEST_NAME).is_file():
        return False
    if not (out / INPUTS_NAME).is_file():
        raise UserError(f"{out} already holds a prepared corpus of unknown origin; {WAY_OUT}")
    try:
        Manifest.load(out)
    except UserError as error:
        raise UserError(f"{error}: {WAY_OUT}") from error
    known = json.loads((out / INPUTS_NAME).read_bytes())
    wanted = settings.described()
    for key in [*wanted, *known["settings"]]:
        old, new = known["settings"].get(key, "nothing"), wanted.get(key, "nothing")
        if old != new:
            raise UserError(f"{out} was prepared with {key}={old}, not {new}; {WAY_OUT}")
    _check_same_files(out, known["files"], inputs)
    shutil.rmtree(out / WORK_NAME, ignore_errors=True)  # of a run killed right after its manifest
    note(f"{out} is already prepared from the same text with the same settings")
    return True


def result_of(out: Path, seconds: float) -> dict[str, Any]:
    """The result of a preparation, from its manifest."""
    manifest = Manifest.load(out)
    result: dict[str, Any] = {
        "out": str(out),
        "vocab_size": manifest.vocab_size,
        "seconds": round(seconds, 3),
    }
    for split, languages in manifest.splits.items():
        result[split] = {
            language: {
                **{what: manifest.total(split, language, what) for what in COUNTS},
                "shards": len(shards),
                "anomalies": manifest.anomalies.get(split, {}).get(language, {}),
            }
            for language, shards in languages.items()
        }
    return result


def _gather(
    files: Mapping[str, Mapping[str, object]], results: Sequence[ShardResult]
) -> tuple[dict[str, dict[str, list[Shard]]], dict[str, dict[str, dict[str, int]]]]:
    """Shards and counts of anomalies by split and language."""
    splits: dict[str, dict[str, list[Shard]]] = {}
    anomalies: dict[str, dict[str, dict[str, int]]] = {}
    for split, languages in files.items():
        for language in languages:
            own = [r for r in results if (r.split, r.language) == (split, language)]
            splits.setdefault(split, {})[language] = _shards(f"corpus.{split}.{language}", own)
            counts = {name: sum(r.anomalies[name] for r in own) for name in ANOMALIES}
            anomalies.setdefault(split, {})[language] = counts
            _tell_anomalies(split, language, counts)
    return splits, anomalies


def _limit(
    corpus: Corpus, splits: Mapping[str, Mapping[str, Sequence[Shard]]]
) -> dict[str, dict[str, dict[str, float]]]:
    """The true entropy, also as perplexity per token, now that the text is cut into tokens."""
    return {
        split: {
            language: {
                "nll_nats": nll_nats,
                "perplexity": math.exp(
                    nll_nats / sum(shard.tokens for shard in splits[split][language])
                ),
            }
            for language, nll_nats in languages.items()
        }
        for split, languages in corpus.nll_nats.items()
    }


def _shards(key: str, results: Sequence[ShardResult]) -> list[Shard]:
    if not any(result.has_words for result in results):
        raise UserError(f"{key} holds no words; give a file with text")
    tokens = sum(result.shard.tokens for result in results)
    if tokens == 0:  # all of a train text can be the tail after the last whole block
        total = sum(result.shard.dropped_tail for result in results)
        raise UserError(f"{key} has {total} tokens, fewer than one block ({BLOCK_LENGTH})")
    for result in results:
        if result.shard.tokens == 0:
            note(f"warning: {result.shard.name} has less than a block of tokens and is left out")
    return [result.shard for result in results if result.shard.tokens]


def _tell_anomalies(split: str, language: str, counts: Mapping[str, int]) -> None:
    found = [f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    if found:
        note(f"corpus.{split}.{language}: {', '.join(found)}")


def _check_same_files(
    out: Path, known: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], inputs: Inputs
) -> None:
    for split in [*inputs, *known]:
        for language in [*inputs.get(split, {}), *known.get(split, {})]:
            old = known.get(split, {}).get(language, [])
            new = inputs.get(split, {}).get(language, [])
            same = [entry["bytes"] for entry in old] == [path.stat().st_size for path in new]
            if not same or [entry["sha256"] for entry in old] != [sha256_of(p) for p in new]:
                raise UserError(
                    f"{out} was prepared from other text for corpus.{split}.{language}; {WAY_OUT}"
                )
