"""`${run_id:}`: the name of a run's folder, on which all its processes agree."""

from __future__ import annotations

import os
import random
import string
import time

from xlm_lightning import slurm
from xlm_lightning.errors import UserError


def run_id() -> str:
    """Return the run's name, the same in every process of a run.

    The job's id of SLURM or torchrun where there is one, else UTC time and four random letters (two
    runs may start in the same second), handed down to child processes by the environment.
    """
    torchrun = os.environ.get("TORCHELASTIC_RUN_ID")
    inherited = os.environ.get("XLM_RUN_ID") if "LOCAL_RANK" in os.environ else None
    given = inherited or slurm.run_name()
    if given is None and torchrun == "none" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "torchrun gave no run id, so the processes cannot agree on a folder: "
            "add --rdzv-id=NAME to torchrun, or run.dir=DIR here"
        )
    if given is None and torchrun not in (None, "none"):
        given = torchrun
    if given is None:
        letters = random.SystemRandom().choices(string.ascii_lowercase, k=4)
        given = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + "".join(letters)
    os.environ["XLM_RUN_ID"] = given
    return given
