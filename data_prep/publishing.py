"""The end of a preparation: check the whole, write `inputs.json` and, last of all, the manifest."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.inputs import Inputs, key_of, pair_of, rules_of
from data_prep.learning import TextModelFiles
from data_prep.lines import ANOMALIES
from data_prep.progress import note
from data_prep.reading import sha256_of
from data_prep.settings import TOOL_VERSIONS, Settings
from data_prep.shards import ShardResult
from data_prep.workspace import (
    INPUTS_NAME,
    check_folder,
    naming_disk_errors,
    remove_strangers,
)
from xlm_lightning.atomic import write_json
from xlm_lightning.errors import UserError
from xlm_lightning.manifest import BLOCK_LENGTH, MANIFEST_NAME, Manifest, Shard
from xlm_lightning.text.vocabulary import SPECIALS, Vocabulary

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
    text_model: TextModelFiles,
    files: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    results: Sequence[ShardResult],
    corpus: Corpus,
) -> None:
    """Make `out` a prepared folder. Raises `UserError` when a language came out empty."""
    _check_parallel(results)
    splits, anomalies = _gather(files, results)
    vocabulary = Vocabulary.load(text_model.vocabulary)
    manifest = Manifest(
        vocab_size=len(vocabulary),
        vocab_sha256=text_model.vocab_sha256,
        codes_sha256=text_model.codes_sha256,
        text={
            "mode": settings.mode,
            "lowercase_and_remove_accent": settings.lowercase_and_remove_accent,
            "invalid_utf8": settings.policy.invalid_utf8,
            "max_word_length": settings.policy.max_word_length,
            "vocabulary_filter": False,
            "versions": TOOL_VERSIONS,
        },
        splits={split: own for split, languages in splits.items() if (own := _own(languages))},
        parallel=_parallel(splits),
        corpus=dict(corpus.facts),
        limit=_limit(corpus, results),
        anomalies=anomalies,
        special_ids={word: vocabulary.id(word) for word in SPECIALS},
    )
    remove_strangers(
        out, {name for shard in manifest.shards() for name in (shard.name, shard.docs_name)}
    )
    write_json(out / INPUTS_NAME, {"settings": settings.described(), "files": files})
    manifest.save(out)


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


def check_out(out: Path, settings: Settings, corpus: Mapping[str, Any]) -> None:
    """Raise `UserError` when `out` cannot become what is wanted, whatever the text is.

    Names and settings decide, so that it is known before text is fetched or made, which may take
    hours. `corpus` holds what a manifest must say of the source.
    """
    with naming_disk_errors(out):
        if not (out / MANIFEST_NAME).is_file():
            check_folder(out)
            return
        _files_of_finished(out, settings)
        known = Manifest.load(out).corpus
        for key, wanted in corpus.items():
            _check_same(out, f"corpus.{key}", known.get(key, "nothing"), wanted)


def is_finished(out: Path, settings: Settings, inputs: Inputs) -> bool:
    """Whether `out` already holds what these settings and files give.

    Raises `UserError` naming the first difference when it holds something else.
    """
    if not (out / MANIFEST_NAME).is_file():
        return False
    _check_same_files(out, _files_of_finished(out, settings), inputs)
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
                **_counts(shards),
                "anomalies": manifest.anomalies.get(split, {}).get(language, {}),
            }
            for language, shards in languages.items()
        }
    for split, pairs in manifest.parallel.items():
        result.setdefault("parallel", {})[split] = {
            pair: {language: _counts(shards) for language, shards in sides.items()}
            for pair, sides in pairs.items()
        }
    return result


def _counts(shards: Sequence[Shard]) -> dict[str, int]:
    sums = {what: sum(getattr(shard, what) for shard in shards) for what in COUNTS}
    return {**sums, "shards": len(shards)}


def _gather(
    files: Mapping[str, Mapping[str, object]], results: Sequence[ShardResult]
) -> tuple[dict[str, dict[str, list[Shard]]], dict[str, dict[str, dict[str, int]]]]:
    """Shards and counts of anomalies by split and language."""
    splits: dict[str, dict[str, list[Shard]]] = {}
    anomalies: dict[str, dict[str, dict[str, int]]] = {}
    for split, languages in files.items():
        for language in languages:
            own = [r for r in results if (r.split, r.language) == (split, language)]
            splits.setdefault(split, {})[language] = _shards(key_of(split, language), own)
            counts = {name: sum(r.anomalies[name] for r in own) for name in ANOMALIES}
            anomalies.setdefault(split, {})[language] = counts
            _tell_anomalies(split, language, counts)
    return splits, anomalies


def _own(languages: Mapping[str, list[Shard]]) -> dict[str, list[Shard]]:
    return {language: shards for language, shards in languages.items() if not pair_of(language)}


def _parallel(
    splits: Mapping[str, Mapping[str, list[Shard]]],
) -> dict[str, dict[str, dict[str, list[Shard]]]]:
    """split -> pair -> language -> shards."""
    parallel: dict[str, dict[str, dict[str, list[Shard]]]] = {}
    for split, languages in splits.items():
        for language, shards in languages.items():
            if pair := pair_of(language):
                sides = parallel.setdefault(split, {}).setdefault(pair, {})
                sides[rules_of(language)] = shards
    return parallel


def _check_parallel(results: Sequence[ShardResult]) -> None:
    """Raise `UserError` where the two sides of parallel text differ in length."""
    lines: dict[str, Counter[str]] = {}
    for result in results:
        if pair_of(result.language):
            counts = lines.setdefault(key_of(result.split, result.language), Counter())
            counts[rules_of(result.language)] += result.shard.lines
    for key, counts in lines.items():
        if len(set(counts.values())) > 1:
            told = " and ".join(f"{count:,} lines of {name}" for name, count in counts.items())
            raise UserError(f"{key}: {told}; line k of one must translate line k of the other")


def _limit(
    corpus: Corpus, results: Sequence[ShardResult]
) -> dict[str, dict[str, dict[str, float]]]:
    """The true entropy, also as perplexity per token, now that the text is cut into tokens.

    It is that of the whole text, so the tails that train shards drop are counted, too.
    """
    tokens: Counter[tuple[str, str]] = Counter()
    for result in results:
        tokens[result.split, result.language] += result.shard.tokens + result.shard.dropped_tail
    return {
        split: {
            language: {
                "nll_nats": nll_nats,
                "perplexity": math.exp(nll_nats / tokens[split, language]),
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
        note(f"{key_of(split, language)}: {', '.join(found)}")


def _files_of_finished(
    out: Path, settings: Settings
) -> Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]:
    """The files that `out` was prepared from; `UserError` when it was with other settings."""
    if not (out / INPUTS_NAME).is_file():
        raise UserError(f"{out} already holds a prepared corpus of unknown origin; {WAY_OUT}")
    try:
        Manifest.load(out)
    except UserError as error:
        raise UserError(f"{error}: {WAY_OUT}") from error
    try:
        known = json.loads((out / INPUTS_NAME).read_bytes())
        made_with: dict[str, Any] = known["settings"]
        files: dict[str, dict[str, list[dict[str, Any]]]] = known["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / INPUTS_NAME} is damaged ({error}); {WAY_OUT}") from error
    wanted = settings.described()
    for key in [*wanted, *made_with]:
        _check_same(out, key, made_with.get(key, "nothing"), wanted.get(key, "nothing"))
    return files


def _check_same(out: Path, key: str, old: object, new: object) -> None:
    if old != new:
        raise UserError(f"{out} was prepared with {key}={old}, not {new}; {WAY_OUT}")


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
                    f"{out} was prepared from other text for {key_of(split, language)}; {WAY_OUT}"
                )
