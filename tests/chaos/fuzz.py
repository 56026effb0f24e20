"""Feed damaged files to everything that reads them: no crash, no traceback, nothing false accepted.

    python tests/chaos/fuzz.py --count 10000

Files are changed at random places (bits, bytes, pieces cut, doubled, moved, replaced), the same
for the same seed, and read in child processes, so that a death by signal is seen. Good answers are
a `UserError`, and acceptance where no checksum says otherwise: there the content that counts must
be as before. Exit code 1 for any other answer; it is printed with the words that repeat it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "interop"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from building import Exported
from commands import run
from crumbs import LINES, crumbs_of
from in_process import call
from original_files import write_original
from training import WORDS

from data_prep.verify import verify
from xlm_lightning.checkpoint import newest_whole, sha256_file
from xlm_lightning.errors import RunFailed, UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.metrics_csv import MetricsCsv
from xlm_lightning.pretrained import load_model
from xlm_lightning.provenance import weights_sha256
from xlm_lightning.recall import recalled
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.streaming.plan import Plan
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.text.bpe import BytePairEncoder, read_codes
from xlm_lightning.text.vocabulary import Vocabulary

SECONDS_FOR_ONE = 30
MEMORY_BYTES = 12 << 30  # of address space; torch alone maps four gigabytes
AT_ONCE = 50  # files for one child process
HOSTILE = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b'"',
    b"{",
    b"]",
    b":",
    b"-1",
)
HOSTILE_NUMBERS = (b"0", b"-1", b"1e999", b"99999999999999999999", b"NaN", b"null", b"0.5", b"true")


@dataclass(frozen=True)
class Kind:
    """A file, and what reads it.

    `read` returns what must not change without an error, or None where nothing refutes a change.
    """

    file: Path
    read: Callable[[], str | None]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Change one to four places."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        size = len(changed)
        start = draw.randrange(size + 1)
        end = min(size, start + draw.choice([1, 2, 8, 64, size // 4 + 1]))
        piece = bytes(changed[start:end])
        match draw.randrange(9):
            case 0 if start < size:
                changed[start] ^= 1 << draw.randrange(8)
            case 1:
                changed[start:end] = draw.randbytes(end - start)
            case 2:
                del changed[start:end]
            case 3:
                changed[start:start] = piece
            case 4:
                place = draw.randrange(size + 1)
                changed[place : place + len(piece)] = piece
            case 5:
                changed[start:start] = draw.choice(HOSTILE) * draw.choice([1, 1, 3, 2000])
            case 6:
                changed[start:end] = bytes(end - start)
            case 7:
                del changed[start:]
            case _:
                _replace_a_number(changed, draw)
    return bytes(changed)


def _replace_a_number(content: bytearray, draw: random.Random) -> None:
    """Numbers are read most trustingly."""
    digits = [place for place in range(len(content)) if content[place : place + 1].isdigit()]
    if digits:
        start = end = draw.choice(digits)
        while content[end : end + 1].isdigit():
            end += 1
        content[start:end] = draw.choice(HOSTILE_NUMBERS)


# --- what is read ---------------------------------------------------------------------------------
def _hash(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _kinds(scratch: Path) -> dict[str, Kind]:
    """Make a folder of each sort, once."""
    tiny = scratch / "tiny"
    run("xlm-prepare", "corpus=sample_tiny", f"out={tiny}", cwd=scratch).expect()
    data = crumbs_of(tiny)
    words = [*WORDS, f"data.dir={data}", f"run.dir={scratch / 'run'}", "trainer.max_steps=10"]
    call("xlm-train", *words, "trainer.val_check_interval=5").expect()
    folder = RunFolder(scratch / "run")
    exported = scratch / "exported"
    call("xlm-export", f"checkpoint={folder.path}", f"out={exported}").expect()
    trained = load_model(str(exported))
    original = write_original(Exported(trained, exported), scratch / "original")
    shutil.copy(folder.checkpoints / "last.ckpt", scratch / "alone.ckpt")  # without its hash
    (scratch / "conf" / "experiment").mkdir(parents=True)
    own = scratch / "conf" / "experiment" / "own.yaml"
    own.write_text("# @package _global_\nmodel:\n  layers: 2\n  dim: 64\noptimizer:\n  lr: 0.001\n")
    text, packed = scratch / "text.txt", scratch / "text.gz"
    lines = (scratch / "tiny_raw" / "train.de.txt").read_bytes().splitlines(keepends=True)
    text.write_bytes(b"".join(lines[: LINES["train"]]))
    packed.write_bytes(gzip.compress(text.read_bytes(), mtime=0))
    shard = data / "train" / "de-00000.bin"
    document = shard.with_suffix(".docs.npy")
    vocabulary = len(Vocabulary.load(data / "vocab"))

    def prepare(file: Path, *, refuted: bool) -> str | None:
        out = scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        given = (f"bpe.codes={data / 'codes'}", f"bpe.vocab={data / 'vocab'}")
        words = ("corpus=text", f"corpus.train.de={file}", *given, "workers=1", f"out={out}")
        done = call("xlm-prepare", *words, "invalid_utf8=error")
        if done.code == 2:
            raise UserError(done.stderr)
        assert done.code == 0, done.stderr
        verify(out)
        return _hash(*sorted(out.rglob("*.bin"))) if refuted else None

    def verified() -> str:
        verify(data)
        return "whole"

    def first_batch() -> None:
        manifest = Manifest.load(data)
        shards = TokenShards(data, "train", 32, manifest)
        plan = Plan(0, 2, shards.blocks(), 0.7)
        for number in range(5):
            slot = plan.slot(number)
            shards.read(slot.language, slot.shard, slot.block)
        manifest.bytes_per_token("valid")

    def learnt_words() -> None:
        codes = read_codes(data / "codes")
        for backend in ("fastbpe", "tokenizers"):
            BytePairEncoder(codes, backend).apply(["Haus", "house", "Straße", "x" * 200])

    def gone_on_from() -> str:
        with contextlib.redirect_stderr(io.StringIO()):
            if newest_whole(folder.checkpoints).name != newest.name:
                raise UserError(f"{newest.name} is passed over")
        return "whole"

    def model_of(path: Path) -> Callable[[], str]:
        def read() -> str:
            model = load_model(str(path))
            return weights_sha256(model.model.state_dict())

        return read

    def foreign(path: Path) -> Callable[[], None]:
        def read() -> None:
            load_model(str(path), "clm").load_text_model().pipelines()["de"].encode("Ein Haus.")

        return read

    def composed(*words: str) -> None:
        shown = call("xlm-train", "--cfg", "job", *words)
        if shown.code == 2:
            raise UserError(shown.stderr)
        assert shown.code == 0, shown.stderr

    newest = (folder.checkpoints / "last.ckpt").resolve()
    assert not sha256_file(scratch / "alone.ckpt").exists()
    words_file = scratch / "words"
    words_file.write_text("\n".join([*WORDS, "optimizer.betas=[0.9,0.99]", "logger=[wandb]"]))
    return {
        "text": Kind(text, lambda: prepare(text, refuted=False)),
        "packed text": Kind(packed, lambda: prepare(packed, refuted=True)),
        "codes": Kind(data / "codes", learnt_words),
        "vocabulary": Kind(data / "vocab", lambda: (Vocabulary.load(data / "vocab"), None)[1]),
        "codes, verified": Kind(data / "codes", verified),
        "vocabulary, verified": Kind(data / "vocab", verified),
        "shard": Kind(shard, verified),
        "documents": Kind(document, verified),
        "manifest": Kind(data / "manifest.json", first_batch),
        "checkpoint": Kind(newest, gone_on_from),
        "checkpoint alone": Kind(scratch / "alone.ckpt", model_of(scratch / "alone.ckpt")),
        "overrides.yaml": Kind(
            folder.path / "overrides.yaml",
            lambda: (recalled([f"run.dir={folder.path}"]), None)[1],
        ),
        "config.yaml": Kind(folder.path / "config.yaml", lambda: (folder.data_dir(), None)[1]),
        "text.json": Kind(
            folder.text_folder / "text.json",
            lambda: (folder.text_model(vocabulary).pipelines(), None)[1],
        ),
        "metrics.csv": Kind(folder.metrics, lambda: (MetricsCsv(folder.metrics), None)[1]),
        "command line": Kind(
            words_file,
            lambda: composed(*words_file.read_text("utf-8", errors="replace").split("\n")),
        ),
        "own.yaml": Kind(
            own, lambda: composed("--config-dir", str(scratch / "conf"), "experiment=own")
        ),
        **{
            f"hugging face {name}": Kind(exported / name, foreign(exported))
            for name in (
                "config.json",
                "tokenizer_config.json",
                "vocab.json",
                "merges.txt",
                "model.safetensors",
            )
        },
        "original .pth": Kind(original, foreign(original)),
    }


# --- the children ---------------------------------------------------------------------------------
def _answer(kind: Kind, before: str | None) -> str:
    """What the reader makes of the file as it is now: refused, accepted, or a fault in words."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            found = kind.read()
    except (UserError, RunFailed) as error:
        told = str(error)
        if not told.strip() or "Traceback" in told:
            return f"says nothing: {told}"
        return "refused"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return f"{type(error).__name__} at {where}: {str(error)[:200]}"
    return "accepted" if found == before else "accepted, though a checksum refutes it"


def _read_some(
    name: str, kind: Kind, numbers: Sequence[int], seed: int, before: str | None, answers: Path
) -> None:
    """Runs in a child: one line in `answers` before each file, and one after it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    whole = kind.file.read_bytes()
    with answers.open("w", buffering=1) as told:
        for number in numbers:
            draw = random.Random(f"{seed} {name} {number}")
            content = damaged(whole, draw)
            kind.file.write_bytes(content)
            signal.alarm(SECONDS_FOR_ONE)
            told.write(f"{number} begun\n")
            same = content == whole
            answer = "accepted" if same else _answer(kind, before)
            told.write(f"{number} {' '.join(answer.split())}\n")
    kind.file.write_bytes(whole)


def fuzz(name: str, kind: Kind, numbers: Sequence[int], seed: int) -> dict[int, str]:
    """Return the number of each file -> its answer; the file is whole again afterwards."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        before = kind.read()
    whole = kind.file.read_bytes()
    answers: dict[int, str] = {}
    left = list(numbers)
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "answers")
        while left:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    _read_some(name, kind, left[:AT_ONCE], seed, before, told)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            kind.file.write_bytes(whole)
            lines = [line.split(" ", 1) for line in told.read_text().splitlines()]
            answers |= {int(number): answer for number, answer in lines}
            for number, answer in answers.items():
                if answer == "begun":
                    code = os.waitstatus_to_exitcode(status)
                    answers[number] = f"the process ended with {code}"
            left = [number for number in left if number not in answers]
    return answers


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="files of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="KIND or KIND:NUMBER: these again")
    options = parser.parse_args(arguments)
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        torch.set_num_threads(1)
        kinds = _kinds(Path(scratch))
        only, _, single = (options.only or "").partition(":")
        chosen = {name: kind for name, kind in kinds.items() if name == only or not only}
        share = -(-options.count // len(chosen))
        print(f"{'':34} {'files':>6} {'refused':>8} {'accepted':>9} {'faults':>7} {'seconds':>8}")
        for name, kind in chosen.items():
            began = time.monotonic()
            numbers = [int(single)] if single else range(share)
            answers = fuzz(name, kind, numbers, options.seed)
            counts = Counter(answers.values())
            wrong = {
                number: answer
                for number, answer in answers.items()
                if answer not in ("refused", "accepted")
            }
            print(
                f"{name:34} {len(answers):6} {counts['refused']:8} {counts['accepted']:9} "
                f"{len(wrong):7} {time.monotonic() - began:8.0f}",
                flush=True,
            )
            for number, answer in list(wrong.items())[:5]:
                print(f"  --seed {options.seed} --only '{name}:{number}': {answer}")
            faults += len(wrong)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
