"""A process that runs one command after the other: some libraries read the environment at import.

Started as a script it reads commands as lines of JSON and answers with what they left behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Protocol

from commands import Outcome
from in_process import call


class Run(Protocol):
    """Runs a command to its exit; `variables` are added to its environment."""

    def __call__(self, command: str, *words: str, **variables: str) -> Outcome: ...


@contextmanager
def command_process(**variables: str) -> Iterator[Run]:
    """Start the process in an environment with `variables`, and end it with the block."""
    paths = os.pathsep.join(filter(None, sys.path))  # it finds what this process finds
    environment = {**os.environ, **variables, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, __file__],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def run(command: str, *words: str, **variables: str) -> Outcome:
            asked.write(json.dumps([[command, *words], variables]) + "\n")
            asked.flush()
            return Outcome(**json.loads(answers.readline()))

        yield run
        asked.close()


def _answer_all() -> None:
    for line in sys.stdin:
        words, variables = json.loads(line)
        outcome = call(*words, **variables)
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    _answer_all()
