"""The door: read the words, accept the configuration, run a command, answer by JSON and exit code.

Exit code 0: done; 2: the user's mistake, told in one or two lines; 128+n: ended by signal n; 1: all
else, with a traceback. Nothing heavy is imported before the configuration is accepted: torch and
Lightning come with the command's own module.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from xlm_lightning import schema
from xlm_lightning.compose import compose, show
from xlm_lightning.errors import RunFailed, UserError
from xlm_lightning.launch import end_with_starter, leave_ranks
from xlm_lightning.legality import check_files
from xlm_lightning.manifest import MANIFEST_NAME
from xlm_lightning.overrides import Command, Words, read_words
from xlm_lightning.recall import recalled
from xlm_lightning.streaming.store import is_remote
from xlm_lightning.sweep.answers import follow_sweep, tell_sweep
from xlm_lightning.sweep.running import run_sweep

TRAIN = Command("train", schema.Train)
PREPARE = Command("prepare", schema.Prepare)
EVALUATE = Command("evaluate", schema.Evaluate)
GENERATE = Command("generate", schema.Generate)
TRANSLATE = Command("translate", schema.Translate)
EXPORT = Command("export", schema.Export)
REPORT = Command("report", schema.Report)

Result = dict[str, Any]
# JSON leaves these alone, but many readers of "the last line" break lines there.
_LINE_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


def train() -> NoReturn:
    """xlm-train."""
    _open(TRAIN, _train)


def prepare() -> NoReturn:
    """xlm-prepare."""
    _open(PREPARE, _prepare)


def evaluate() -> NoReturn:
    """xlm-evaluate."""
    _open(EVALUATE, _evaluate)


def generate() -> NoReturn:
    """xlm-generate."""
    _open(GENERATE, _generate)


def translate() -> NoReturn:
    """xlm-translate."""
    _open(TRANSLATE, _translate)


def export() -> NoReturn:
    """xlm-export."""
    _open(EXPORT, _export)


def report() -> NoReturn:
    """xlm-report."""
    _open(REPORT, _report)


def _train(config: schema.Train) -> Result:
    # SLURM may ask for a requeue at any time: the signal waits until it is handled
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    end_with_starter()
    _ensure_data(config.data, config.trainer.timeout_seconds)
    from xlm_lightning.train import train as run

    summary = run(config, [Path(sys.argv[0]).name, *sys.argv[1:]])
    leave_ranks()
    return summary


def _prepare(config: schema.Prepare) -> Result:
    from xlm_lightning.prepare import prepare as run

    return run(config)


def _evaluate(config: schema.Evaluate) -> Result:
    from xlm_lightning.evaluate import evaluate as run

    return run(config)


def _generate(config: schema.Generate) -> Result:
    from xlm_lightning.generate import generate as run

    return run(config)


def _translate(config: schema.Translate) -> Result:
    from xlm_lightning.translate import translate as run

    return run(config)


def _export(config: schema.Export) -> Result:
    from xlm_lightning.export import export as run

    return run(config)


def _report(config: schema.Report) -> Result:
    from xlm_lightning.report import report as run

    return run(config)


def _open(command: Command, run: Callable[[Any], Result]) -> NoReturn:
    """Run a command from its words to its exit code."""
    follow_sweep()
    try:
        if command is TRAIN:
            sys.argv[1:] = recalled(sys.argv[1:])  # the ranks that Lightning starts get them, too
        words = read_words(command, sys.argv[1:])
        if words.shows:
            code = _show(command, words)
        elif words.options.multirun:
            code, swept = run_sweep(command, sys.argv[1:], trains=command is TRAIN)
            _answer(swept)
        else:
            (config,) = compose(command, words)
            check_files(config)
            code = _answer(run(config))
    except (UserError, RunFailed) as error:
        tell_sweep({"error": str(error)})
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        print(f"xlm-{command.name}: {error}", file=sys.stderr)
        code = 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print(f"xlm-{command.name}: interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    except Exception as error:
        tell_sweep({"error": f"{type(error).__name__}: {error}".partition("\n")[0]})
        if not (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise
        told = f"{error.filename or 'a file'} could not be written: {error.strerror}; make room"
        print(f"xlm-{command.name}: {told}, and run the same command again", file=sys.stderr)
        code = 1
    sys.exit(code)


def _show(command: Command, words: Words) -> int:
    """Print what was asked for, as far as anybody reads it: `xlm-train --help | head -3`."""
    try:
        show(command, words)
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still buffered would raise again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0


def _answer(result: Result) -> int:
    """Print the result, the last line on stdout; return the exit code it asks for."""
    code = int(result.pop("exit_code", 0))
    if _is_main_process():
        line = json.dumps(result, ensure_ascii=False).translate(_LINE_BREAKS)
        print(line, flush=True)
        tell_sweep(result)
    return code


def _is_main_process() -> bool:
    """False in the processes that Lightning, torchrun or srun start beside the first."""
    names = ("LOCAL_RANK", "RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


# --- data -----------------------------------------------------------------------------------------
def _ensure_data(data: schema.Data, timeout_seconds: int) -> None:
    """Prepare the embedded corpus where the run's data is missing and is allowed to be made."""
    manifest = Path(data.dir) / MANIFEST_NAME
    if is_remote(data.dir) or manifest.is_file():
        return
    if data.prepare is None:
        raise UserError(
            f"data.dir={data.dir}: not a prepared folder (no {MANIFEST_NAME}); "
            f"make one with xlm-prepare out={data.dir} ..., see xlm-prepare --help"
        )
    if not _is_main_process():
        _wait_for(manifest, timeout_seconds)
        return
    print(f"preparing corpus={data.prepare} in {data.dir}", file=sys.stderr)
    words = read_words(PREPARE, [f"corpus={data.prepare}", f"out={data.dir}"])
    (config,) = compose(PREPARE, words)
    _prepare(config)


def _wait_for(manifest: Path, timeout_seconds: int) -> None:
    """Of the processes that torchrun or srun start at once, the first one prepares the data."""
    deadline = time.monotonic() + timeout_seconds
    while not manifest.is_file():
        if time.monotonic() > deadline:
            raise RunFailed(
                f"data.dir={manifest.parent} has not been prepared by the first process within "
                f"trainer.timeout_seconds={timeout_seconds}; run xlm-prepare before xlm-train"
            )
        time.sleep(0.2)
