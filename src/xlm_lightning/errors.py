"""The exceptions that are told without a traceback, and the nearest name to propose instead.

Everything below the command line raises `UserError` with a message of one or two lines that names
the key, value or file and the way out. The door (`cli.py`) prints it and leaves with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's, told in one or two lines: what is wrong, and what to do about it."""


class RunFailed(Exception):
    """The world's doing, not the user's: told in one or two lines as well, exit code 1."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest of `known`, or the empty string."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
