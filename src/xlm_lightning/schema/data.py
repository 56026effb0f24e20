"""Where the data of `xlm-train` come from: its `data` keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from xlm_lightning.legality import AtLeast, AtMost, OneOf
from xlm_lightning.schema.kinds import Count, Gigabytes, LocalPath, Minutes, PathName, Positive


@dataclass
class Data:
    """The prepared folder, and how blocks are taken from it."""

    dir: PathName  # or its address in an object store
    prepare: Annotated[
        str | None, OneOf("sample", "sample_tiny")
    ]  # corpus to make when dir is empty
    batch_size: Positive  # sequences in a micro-batch, per device
    stream_length: Annotated[int, AtLeast(2)]  # tokens in a sequence
    slots_per_step: Annotated[
        int | None, AtLeast(1)
    ]  # micro-batches of all devices in a step; None: one of each, times the accumulation
    workers: Count  # processes that read ahead; 0: none
    alpha: Annotated[
        float, AtLeast(0), AtMost(1)
    ]  # q_i ~ p_i^alpha; 0: languages alike, 1: by size
    shares: Annotated[
        dict[str, float], AtLeast(0), AtMost(1)
    ]  # language -> of its blocks; 1 where it is not named, 0: the language is left out
    max_valid_tokens: Annotated[int | None, AtLeast(1)]  # per language and validation; None: all
    sentence_tokens: Positive  # tlm, ae, bt, mt: tokens in a micro-batch of sentences, per device
    sentence_max_length: Positive  # tlm, ae, bt, mt: sentences of more tokens are left out
    max_pairs: Annotated[
        int | None, AtLeast(1)
    ]  # tlm, mt: the first so many of each two languages in train; None: all
    overfit_slots: Annotated[int | None, AtLeast(1)]  # train on the first so many batches for ever
    reorder: bool  # go on from a checkpoint of other data, which then begins anew
    cache_dir: LocalPath  # dir in an object store: where shards are kept on this machine
    cache_gb: Gigabytes
    retry_minutes: Minutes
