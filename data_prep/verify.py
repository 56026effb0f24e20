"""Check a prepared folder to the last bit: every hash, every id, every document offset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import (
    BLOCK_LENGTH,
    MANIFEST_NAME,
    REPAIR,
    TOKEN_BYTES,
    Manifest,
    Shard,
    check_hash,
)
from xlm_lightning.text.bpe import read_codes
from xlm_lightning.text.vocabulary import PAD, SPECIALS, Vocabulary


def verify(folder: Path) -> dict[str, Any]:
    """Check all that `folder/manifest.json` states; returns what was checked, as the commands do.

    Raises `UserError` naming the first file that is missing, damaged or unknown.
    """
    manifest = Manifest.load(folder)
    _check_text_model(folder, manifest)
    for split, languages in manifest.splits.items():
        for shards in languages.values():
            for shard in shards:
                _check_shard(folder, shard, manifest.vocab_size, in_blocks=split == "train")
    for pairs in manifest.parallel.values():
        for sides in pairs.values():
            for shards in sides.values():
                for shard in shards:
                    _check_shard(folder, shard, manifest.vocab_size, in_blocks=False)
    _check_no_strangers(folder, manifest)
    return {
        "verified": str(folder),
        "vocab_size": manifest.vocab_size,
        "shards": sum(1 for _ in manifest.shards()),
        "bytes": sum(shard.bytes for shard in manifest.shards()),
        "tokens": sum(shard.tokens for shard in manifest.shards()),
    }


def _check_text_model(folder: Path, manifest: Manifest) -> None:
    read_codes(folder / "codes")
    vocabulary = Vocabulary.load(folder / "vocab")
    size = len(vocabulary)
    specials = {word: vocabulary.id(word) for word in SPECIALS}
    if manifest.special_ids not in ({}, specials):
        raise UserError(
            f"{folder / MANIFEST_NAME}: special_ids are {manifest.special_ids}, here they are "
            f"{specials}; {REPAIR}"
        )
    if size != manifest.vocab_size:
        raise UserError(
            f"{folder / 'vocab'} gives {size} ids, {MANIFEST_NAME} says {manifest.vocab_size}; "
            f"{REPAIR}"
        )


def _check_shard(folder: Path, shard: Shard, vocab_size: int, *, in_blocks: bool) -> None:
    path = folder / shard.name
    check_hash(path, shard.sha256)
    padded = shard.tokens + -shard.tokens % BLOCK_LENGTH
    if shard.bytes != padded * TOKEN_BYTES or (in_blocks and padded != shard.tokens):
        raise UserError(f"{path} has {shard.bytes} bytes for {shard.tokens} tokens; {REPAIR}")
    ids = np.fromfile(path, "<u2")
    if len(ids) and int(ids.max()) >= vocab_size:
        raise UserError(
            f"{path} holds the id {int(ids.max())}, the vocabulary ends at {vocab_size - 1}; "
            f"{REPAIR}"
        )
    if (ids[shard.tokens :] != PAD).any():
        raise UserError(f"{path} has tokens after its {shard.tokens} real ones; {REPAIR}")
    _check_documents(folder / shard.docs_name, shard)


def _check_documents(path: Path, shard: Shard) -> None:
    check_hash(path, shard.docs_sha256)
    try:
        ends = np.load(path, allow_pickle=False).astype(np.int64)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is no array of offsets ({error}); {REPAIR}") from error
    starts = np.concatenate([[0], ends[:-1]])
    if (
        len(ends) != shard.documents
        or ends[-1:].tolist() != [shard.tokens]
        or (ends <= starts).any()
    ):
        raise UserError(f"{path}: the document ends do not fit {shard.name}; {REPAIR}")


def _check_no_strangers(folder: Path, manifest: Manifest) -> None:
    """A shard that the manifest does not name is from somewhere else: nobody would read it."""
    known = {name for shard in manifest.shards() for name in (shard.name, shard.docs_name)}
    for split in manifest.splits:
        for path in sorted((folder / split).iterdir()):
            if path.relative_to(folder).as_posix() not in known:
                raise UserError(f"{path} is not in {MANIFEST_NAME}; move it elsewhere")
