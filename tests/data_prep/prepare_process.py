"""Runs `prepare` in a process of its own: `prepare_process.py ARGUMENTS.json`; exit code as cli."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from small_preparation import prepare_with

from xlm_lightning.errors import UserError


def main() -> int:
    given = json.loads(Path(sys.argv[1]).read_bytes())
    if "begin" in given:  # with the others, however long each took to come so far
        begin = Path(given.pop("begin"))
        begin.with_name(f"{begin.name}.{os.getpid()}").touch()
        while not begin.exists():
            time.sleep(0.005)
    out = Path(given.pop("out"))
    files = {
        split: {language: [Path(path) for path in paths] for language, paths in languages.items()}
        for split, languages in given.pop("files").items()
    }
    try:
        print(json.dumps(prepare_with(out, files, **given)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
