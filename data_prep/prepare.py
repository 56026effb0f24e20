"""From raw text to a prepared folder: read, count words, learn BPE, encode, publish.

Memory stays bounded however large the input: text moves in pieces of `shard_megabytes`, a few at a
time (`workers` + 3 of them at the most), and of the counted words only the frequent ones are kept
when there are too many. `manifest.json` is written last; until then the folder is not finished.

Several processes may prepare the same folder, on one machine or many: each runs this chain, and the
heavy steps are shared out piece by piece (`sharing.py`).
"""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.claims import one_at_a_time
from data_prep.inputs import Inputs, check_files, key_of, stored_bytes
from data_prep.learning import copy_given, learn
from data_prep.pool import Workers, start_workers
from data_prep.progress import note, show_progress
from data_prep.publishing import Corpus, describe_files, is_finished, publish, result_of
from data_prep.reading import Piece
from data_prep.settings import TOOL_VERSIONS, Settings
from data_prep.shards import Encoding, ShardResult, ShardTask, write_shard
from data_prep.sharing import Place, Stage, Text, share_out
from data_prep.workspace import Session, naming_disk_errors, remove_work, workspace
from xlm_lightning.manifest import MANIFEST_NAME


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
    text by split and language, where it is known. A run that was stopped is taken up where it was,
    one that is under way is joined; a finished folder of the same settings and files is answered at
    once, and another is a `UserError`. `workers` changes the speed only.
    """
    start = time.monotonic()
    inputs = check_files(files, settings.mode)
    with naming_disk_errors(out):
        if is_finished(out, settings, inputs):
            remove_work(out)  # of a run killed right after its manifest
        else:
            with workspace(out, _described(settings, inputs)) as session:
                _prepare(out, session, settings, inputs, workers, Corpus(corpus, nll_nats or {}))
    return result_of(out, seconds=time.monotonic() - start)


def _described(settings: Settings, inputs: Inputs) -> dict[str, object]:
    """What processes must agree on to prepare the same folder."""
    files: dict[str, object] = {
        key_of(split, language): [f"{path.name} ({path.stat().st_size} bytes)" for path in paths]
        for split, languages in inputs.items()
        for language, paths in languages.items()
    }
    versions = {**TOOL_VERSIONS, "unicode": unicodedata.unidata_version}
    return {**settings.described(), **versions, **files}


def _prepare(
    out: Path, session: Session, settings: Settings, inputs: Inputs, workers: int, corpus: Corpus
) -> None:
    if is_finished(out, settings, inputs):  # by another process, just before this one came
        return
    with start_workers(workers) as pool:
        if settings.given is not None:
            text_model = copy_given(settings.given, out)
        else:
            text_model = learn(out, session, settings, inputs, pool)
        encoding = Encoding(
            settings.mode,
            settings.lowercase_and_remove_accent,
            settings.policy,
            text_model.codes,
            text_model.vocabulary,
            settings.key(text_model.codes_sha256, text_model.vocab_sha256),
        )
        hashes: dict[Path, str] = {}
        results = _encode(out, session, settings, encoding, inputs, pool, hashes)
    with one_at_a_time(session.work / "publishing.lock", "publishing"):
        if not (out / MANIFEST_NAME).is_file():
            publish(out, settings, text_model, describe_files(inputs, hashes), results, corpus)


def _encode(
    out: Path,
    session: Session,
    settings: Settings,
    encoding: Encoding,
    inputs: Inputs,
    pool: Workers,
    hashes: dict[Path, str],
) -> list[ShardResult]:
    # Language by language: a worker keeps the word cache of one.
    texts = [
        Text(split, language, inputs[split][language])
        for language in sorted({name for languages in inputs.values() for name in languages})
        for split in inputs
        if language in inputs[split]
    ]
    stage = Stage(session, session.work, texts, settings.piece_bytes)

    def task(place: Place, piece: Piece) -> ShardTask:
        return ShardTask(out, session, place, piece, encoding)

    with show_progress("encode", stored_bytes(inputs)) as progress:
        results = [
            ShardResult.of(place, record)
            for place, record in share_out(stage, task, write_shard, pool, progress, hashes)
        ]
    _tell_who(results)
    return results


def _tell_who(results: Sequence[ShardResult]) -> None:
    reused = sum(result.reused for result in results)
    if reused:
        note(f"{reused} of {len(results)} shards were already done by an earlier run")
    members = Counter(result.member for result in results if not result.reused)
    if len(members) > 1:
        shares = ", ".join(f"{count} by {member}" for member, count in sorted(members.items()))
        note(f"shards made together: {shares}")
