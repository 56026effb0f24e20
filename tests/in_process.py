"""The commands called inside the test's own process: all of their code, none of their start-up."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from unittest.mock import patch

from commands import Outcome, environment

from xlm_lightning import cli

COMMANDS = {
    "xlm-train": cli.train,
    "xlm-prepare": cli.prepare,
    "xlm-evaluate": cli.evaluate,
    "xlm-generate": cli.generate,
    "xlm-translate": cli.translate,
    "xlm-export": cli.export,
    "xlm-report": cli.report,
}


def call(command: str, *words: str, **variables: str) -> Outcome:
    """Run a command's function to its exit; `variables` are added to its environment.

    Environment, words and streams are as before afterwards: a run leaves its id and Lightning its
    seed in the environment, for child processes that a test does not have.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    code = -1
    with (
        patch.object(sys, "argv", [command, *words]),
        patch.dict(os.environ, {**environment(), **variables}, clear=True),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            COMMANDS[command]()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return Outcome(code, stdout.getvalue(), stderr.getvalue())
