"""Whether a run goes on with the data of its checkpoint: another order would go unnoticed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from xlm_lightning.errors import UserError

_CURES = {
    "batch_size": "set data.batch_size={0}",
    "stream_length": "set data.stream_length={0}",
    "alpha": "set data.alpha={0}",
    "shares": "give data.shares the same values",
    "overfit_slots": "set data.overfit_slots={0}",
    "objectives": "give the same weights to objective.clm, mlm, tlm, ae, bt and mt",
    "masking": "give objective.masking the same values",
    "noise": "give objective.noise the same values",
    "sentence_tokens": "set data.sentence_tokens={0}",
    "sentence_max_length": "set data.sentence_max_length={0}",
    "max_pairs": "set data.max_pairs={0}",
    "seed": "set seed={0}",
    "slots_per_step": "set data.slots_per_step={0} and leave trainer.accumulate_grad_batches out",
    "plan_version": "use the version of xlm-lightning that wrote the checkpoint",
    "manifest_sha256": "set data.dir to the folder the run was started with",
    "counts": "use the numpy version that wrote the checkpoint",
}
_FORMER_NAMES = {"sentence_tokens": "pair_tokens", "sentence_max_length": "pair_max_length"}


def is_continued(current: Mapping[str, Any], written: Mapping[str, Any], *, reorder: bool) -> bool:
    """Hold all that decides a run's data against what a checkpoint has written.

    False where they differ and are to be gone on with all the same, by `reorder`; else `UserError`.
    """
    for field, value in current.items():
        before = written.get(field, written.get(_FORMER_NAMES.get(field, field)))
        if value == before:
            continue
        if reorder:
            print(f"{field} is {value}, was {before}: the data begins anew", file=sys.stderr)
            return False
        cure = _CURES[field].format("null" if before is None else before)
        raise UserError(
            f"cannot resume: {field} is {value}, the checkpoint has {before}; {cure}, or say "
            "data.reorder=true to go on with data that begins anew, in another order"
        )
    return True
