"""From raw text to a prepared folder: read, count words, learn BPE, encode, publish.

Memory stays bounded however large the input: text moves in pieces of `shard_megabytes`, a few at a
time (`workers` + 3 of them at the most), and of the counted words only the frequent ones are kept
when there are too many. `manifest.json` is written last; until then the folder is not finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.inputs import Inputs, check_files, stored_bytes
from data_prep.learning import copy_given, learn
from data_prep.pool import Workers, start_workers
from data_prep.progress import note, show_progress
from data_prep.publishing import Corpus, describe_files, is_finished, publish, result_of
from data_prep.reading import read_pieces
from data_prep.settings import Settings
from data_prep.shards import Encoding, ShardResult, ShardTask, write_shard
from data_prep.workspace import naming_disk_errors, workspace


def prepare(
    *,
    out: Path,
    files: Mapping[str, Mapping[str, Sequence[Path]]],
    settings: Settings,
    workers: int,
    corpus: Mapping[str, Any],
    nll_nats: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Prepare `files` (split -> language -> files) into `out`; the result as the command prints it.

    For the manifest, `corpus` holds facts about the source and `nll_nats` the true entropy of its
    text by split and language, where it is known. A run that was stopped is taken up where it was;
    a finished folder of the same settings and files is answered at once, and another is a
    `UserError`. `workers` changes the speed only.
    """
    start = time.monotonic()
    inputs = check_files(files, settings.mode)
    with naming_disk_errors(out):
        if not is_finished(out, settings, inputs):
            with workspace(out) as work:
                _prepare(out, work, settings, inputs, workers, Corpus(corpus, nll_nats or {}))
    return result_of(out, seconds=time.monotonic() - start)


def _prepare(
    out: Path, work: Path, settings: Settings, inputs: Inputs, workers: int, corpus: Corpus
) -> None:
    if is_finished(out, settings, inputs):  # by another process, just before this one had the lock
        return
    with start_workers(workers) as pool:
        if settings.given is not None:
            text_model = copy_given(settings.given, out)
        else:
            text_model = learn(out, work, settings, inputs, pool)
        encoding = Encoding(
            settings.mode,
            settings.lowercase_and_remove_accent,
            settings.policy,
            text_model.codes,
            text_model.vocabulary,
            settings.key(text_model.codes_sha256, text_model.vocab_sha256),
        )
        hashes: dict[Path, str] = {}
        tasks = _shard_tasks(out, work, settings, encoding, inputs, hashes)
        results = _encode(tasks, stored_bytes(inputs), pool)
    publish(out, settings, text_model, describe_files(inputs, hashes), results, corpus)


def _shard_tasks(
    out: Path,
    work: Path,
    settings: Settings,
    encoding: Encoding,
    inputs: Inputs,
    hashes: dict[Path, str],
) -> Iterator[ShardTask]:
    # Language by language: a worker keeps the word cache of one.
    for language in sorted({name for languages in inputs.values() for name in languages}):
        for split in inputs:
            paths = inputs[split].get(language, [])
            for index, piece in enumerate(read_pieces(paths, settings.piece_bytes, hashes)):
                yield ShardTask(out, work, split, language, index, piece, encoding)


def _encode(tasks: Iterator[ShardTask], total_bytes: int, pool: Workers) -> list[ShardResult]:
    results = []
    with show_progress("encode", total_bytes) as progress:
        for result in pool.map(write_shard, tasks):
            progress.advance(result.stored_bytes, result.shard.raw_bytes)
            results.append(result)
    reused = sum(result.reused for result in results)
    if reused:
        note(f"{reused} of {len(results)} shards were already done by an earlier run")
    return results
