"""Runs `prepare` in a process of its own: `prepare_process.py ARGUMENTS.json`; exit code as cli."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from data_prep.prepare import prepare
from xlm_lightning.errors import UserError


def main() -> int:
    given = json.loads(Path(sys.argv[1]).read_bytes())
    given["out"] = Path(given["out"])
    given["files"] = {
        split: {language: [Path(path) for path in paths] for language, paths in languages.items()}
        for split, languages in given["files"].items()
    }
    try:
        print(json.dumps(prepare(**given)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
