"""Files and surroundings that are not what they should be, through the real commands.

Each answer is exit code 2 (1 where the machine fails and not the user), in one or two lines that
name the file or the key, and no traceback; nothing half-written stays. What is wrong in the words
themselves stands in `tests/wrong_command_lines.txt`, with text in
`tests/data_prep/test_prepare_bad_input.py`, with foreign models in `tests/interop/`.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cluster.namespaces import skip_without
from commands import SCRIPTS, environment
from crumbs import crumbs_of
from in_process import call
from training import WORDS

from xlm_lightning.atomic import TEMPORARY_PREFIX
from xlm_lightning.checkpoint import sha256_file


@dataclass(frozen=True)
class Place:
    """Copies of a prepared folder and of a run of ten steps, to be spoiled."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def best(self) -> Path:
        return self.run / "checkpoints" / "best-00000010.ckpt"

    @property
    def checkpoints(self) -> list[Path]:
        every = self.run.glob("checkpoints/*.ckpt")
        return [file for file in every if not file.is_symlink()]

    @property
    def manifest(self) -> Path:
        return self.data / "manifest.json"

    def words(self, command: str) -> list[str]:
        """What a user says who does not know that something is wrong."""
        data, run = f"data.dir={self.data}", f"checkpoint={self.run}"
        return {
            "begin": [*WORDS, data, "data.prepare=null", f"run.dir={self.root / 'new'}"],
            "go on": [*WORDS, data, "data.prepare=null", f"run.dir={self.run}", f"{MAX_STEPS}=12"],
            "evaluate": [run, data, "accelerator=cpu"],
            "score a file": [run, f"text_file={self.root / 'text'}", "language=en"],
            "generate": [run, "max_new_tokens=2", "accelerator=cpu"],
            "prompts": [run, f"prompt_file={self.root / 'text'}", "max_new_tokens=2"],
            "export": [run, f"out={self.root / 'exported'}"],
            "verify": [f"verify={self.data}"],
        }[command]


MAX_STEPS = "trainer.max_steps"
PROGRAMS = {
    "begin": "xlm-train",
    "go on": "xlm-train",
    "evaluate": "xlm-evaluate",
    "score a file": "xlm-evaluate",
    "generate": "xlm-generate",
    "prompts": "xlm-generate",
    "export": "xlm-export",
    "verify": "xlm-prepare",
}
Spoil = Callable[[Place], object]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


# --- ways to spoil --------------------------------------------------------------------------------
def manifest(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(place: Place) -> None:
        raw = json.loads(place.manifest.read_text())
        change(raw)
        place.manifest.write_text(json.dumps(raw))

    return spoil


def first_shard(raw: Mapping[str, Any]) -> dict[str, Any]:
    shard: dict[str, Any] = raw["splits"]["train"]["de"][0]
    return shard


def written(path: str, content: bytes | str) -> Spoil:
    """Another content of a file; one that stands in a folder of checkpoints keeps no hash."""

    def spoil(place: Place) -> None:
        file = place.root / path
        sha256_file(file).unlink(missing_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def cut(path: str, share: float) -> Spoil:
    return lambda place: os.truncate(
        place.root / path, int((place.root / path).stat().st_size * share)
    )


def removed(path: str) -> Spoil:
    return lambda place: (place.root / path).unlink()


def made_a_folder(path: str) -> Spoil:
    def spoil(place: Place) -> None:
        (place.root / path).unlink()
        (place.root / path).mkdir()

    return spoil


def checkpoint(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """A checkpoint that another program, or another version, might have written, hash and all."""

    def spoil(place: Place) -> None:
        for file in place.checkpoints:
            state = torch.load(file, weights_only=True)
            change(state)
            sha256_file(file).unlink()
            torch.save(state, file)

    return spoil


def pickled(place: Place) -> None:
    for file in place.checkpoints:
        sha256_file(file).unlink()
        file.write_bytes(pickle.dumps(Bomb()))


def all_checkpoints(spoil: Callable[[Path], object]) -> Spoil:
    def spoil_all(place: Place) -> None:
        for file in place.checkpoints:
            spoil(file)

    return spoil_all


BEST = "run/checkpoints/best-00000010.ckpt"
SHARD = "data/train/de-00000.bin"
MANIFEST = "data/manifest.json"
BYTES = bytes(range(256)) * 99
READS_DATA = ("begin", "evaluate", "verify")
READS_TEXT = ("begin", "verify")
USES_MODEL = ("evaluate", "generate", "export")
USES_WORDS = ("generate", "export")
SCORES = ("score a file", "prompts")

# How a manifest is damaged; all that read it say that it is.
DAMAGED: dict[str, Spoil] = {
    "empty": written(MANIFEST, ""),
    "bytes": written(MANIFEST, BYTES),
    "half": cut(MANIFEST, 0.5),
    "a list": written(MANIFEST, "[]"),
    "{}": written(MANIFEST, "{}"),
    "nested": written(MANIFEST, "[" * 100_000),
    "a new key": manifest(lambda raw: raw.update(colour="red")),
    "no train split": manifest(lambda raw: raw["splits"].pop("train")),
    "splits as a list": manifest(lambda raw: raw.update(splits=[])),
    "shards as a number": manifest(lambda raw: raw["splits"]["train"].update(de=3)),
    "no shards": manifest(lambda raw: raw["splits"]["train"].update(de=[])),
    "text for a number": manifest(lambda raw: first_shard(raw).update(bytes="many")),
    "a broken number": manifest(lambda raw: first_shard(raw).update(tokens=1.5)),
    "a negative number": manifest(lambda raw: first_shard(raw).update(tokens=-1)),
    "a number for a text": manifest(lambda raw: first_shard(raw).update(name=5)),
    "out of the folder": manifest(lambda raw: first_shard(raw).update(name="../../etc/passwd")),
    "an absolute path": manifest(lambda raw: first_shard(raw).update(name="/etc/passwd")),
    "no text options": manifest(lambda raw: raw.update(text={})),
    "no vocabulary": manifest(lambda raw: raw.update(vocab_size=0)),
    "big endian": manifest(lambda raw: raw.update(byte_order="big")),
}

# name: how it is spoiled, the commands that have to tell it, what all of them say
FILES: dict[str, tuple[Spoil, tuple[str, ...], str]] = {
    f"manifest: {name}": (spoil, READS_DATA, "manifest.json is damaged")
    for name, spoil in DAMAGED.items()
} | {
    "manifest: gone": (removed(MANIFEST), (*READS_DATA, "go on"), "manifest.json"),
    "manifest: a folder": (made_a_folder(MANIFEST), READS_DATA, "manifest.json"),
    "manifest: of the future": (
        manifest(lambda raw: raw.update(format_version=99)),
        READS_DATA,
        "format version 99",
    ),
    "manifest: no valid split": (
        manifest(lambda raw: raw["splits"].pop("valid")),
        ("begin", "evaluate"),
        "valid",
    ),
    "manifest: unknown language": (
        manifest(
            lambda raw: [split.update(zz=split.pop("de")) for split in raw["splits"].values()]
        ),
        ("begin", "evaluate"),
        "zz",
    ),
    "manifest: more words": (
        manifest(lambda raw: raw.update(vocab_size=70_000)),
        READS_DATA,
        "vocab",
    ),
    "shard: gone": (removed(SHARD), (*READS_DATA, "go on"), "train/de-00000.bin is missing"),
    "shard: cut": (cut(SHARD, 0.5), (*READS_DATA, "go on"), "train/de-00000.bin has "),
    "shard: empty": (cut(SHARD, 0), READS_DATA, "train/de-00000.bin has 0 bytes"),
    "shard: a folder": (made_a_folder(SHARD), READS_DATA, "train/de-00000.bin"),
    "vocab: gone": (removed("data/vocab"), READS_DATA, "data/vocab"),
    "vocab: empty": (written("data/vocab", ""), READS_DATA, "data/vocab"),
    "vocab: bytes": (written("data/vocab", BYTES), READS_DATA, "data/vocab"),
    "vocab: half": (cut("data/vocab", 0.5), READS_DATA, "data/vocab"),
    "vocab: a folder": (made_a_folder("data/vocab"), READS_DATA, "data/vocab"),
    "codes: gone": (removed("data/codes"), READS_TEXT, "data/codes is missing"),
    "codes: empty": (written("data/codes", ""), READS_TEXT, "data/codes is damaged"),
    "codes: bytes": (written("data/codes", BYTES), READS_TEXT, "data/codes is damaged"),
    "codes: another's": (written("data/codes", "q x</w> 3\n"), READS_TEXT, "codes is damaged"),
    "all: cut": (
        all_checkpoints(lambda file: os.truncate(file, file.stat().st_size // 2)),
        ("go on", *USES_MODEL),
        "00000010.ckpt",
    ),
    "all: empty": (
        all_checkpoints(lambda file: os.truncate(file, 0)),
        ("go on", *USES_MODEL),
        "00000010.ckpt",
    ),
    "all: no hash": (
        all_checkpoints(lambda file: sha256_file(file).unlink()),
        ("go on",),
        "has no step-00000010.ckpt.sha256 beside it",
    ),
    "all: empty hash": (
        all_checkpoints(lambda file: sha256_file(file).write_text("")),
        ("go on", *USES_MODEL),
        "00000010.ckpt is not what was written",
    ),
    "all: foreign pickle": (pickled, ("go on", *USES_MODEL), "00000010.ckpt cannot be read"),
    "all: of another program": (
        checkpoint(lambda state: state.pop("xlm_lightning")),
        ("go on", *USES_MODEL),
        "00000010.ckpt was not written by xlm-train",
    ),
    "all: no weights": (
        checkpoint(lambda state: state.pop("state_dict")),
        ("go on", *USES_MODEL),
        "00000010.ckpt holds no state_dict",
    ),
    "all: no step": (
        checkpoint(lambda state: state.pop("global_step")),
        ("go on", *USES_MODEL),
        "00000010.ckpt holds no global_step",
    ),
    "all: a weight less": (
        checkpoint(lambda state: state["state_dict"].popitem()),
        USES_MODEL,
        "00000010.ckpt does not hold the model",
    ),
    "all: another shape": (
        checkpoint(lambda state: state["xlm_lightning"]["model"].update(dim=96)),
        USES_MODEL,
        "00000010.ckpt does not hold the model",
    ),
    "all: an argument more": (
        checkpoint(lambda state: state["xlm_lightning"]["model"].update(colour=1)),
        USES_MODEL,
        "colour",
    ),
    "all: other languages": (
        checkpoint(lambda state: state["xlm_lightning"].update(languages=["de"])),
        ("evaluate",),
        "trained on de",
    ),
    "best: cut": (cut(BEST, 0.7), USES_MODEL, "best-00000010.ckpt is not what was written"),
    "best: empty, no hash": (written(BEST, ""), USES_MODEL, "best-00000010.ckpt cannot be read"),
    "best: bytes, no hash": (written(BEST, BYTES), USES_MODEL, "best-00000010.ckpt cannot be read"),
    "run: no checkpoints": (
        lambda place: shutil.rmtree(place.run / "checkpoints"),
        USES_MODEL,
        "neither a file nor a run folder",
    ),
    "run: a link to nothing": (all_checkpoints(Path.unlink), ("go on", "generate"), "last.ckpt"),
    "run: no text": (
        lambda place: shutil.rmtree(place.run / "text"),
        USES_MODEL,
        "text.json is missing",
    ),
    "run: text, bytes": (written("run/text/text.json", BYTES), USES_WORDS, "text.json is damaged"),
    "run: text, a list": (written("run/text/text.json", "[]"), USES_WORDS, "text.json is damaged"),
    "run: text, others": (
        written("run/text/text.json", '{"mode": "no"}'),
        USES_WORDS,
        "text.json is damaged",
    ),
    "run: codes gone": (removed("run/text/codes"), USES_WORDS, "text/codes: no such"),
    "run: codes empty": (
        written("run/text/codes", ""),
        USES_WORDS,
        "text/codes: the BPE codes file",
    ),
    "run: codes bytes": (written("run/text/codes", BYTES), USES_WORDS, "text/codes, line 2"),
    "run: vocab gone": (removed("run/text/vocab"), USES_WORDS, "text/vocab: no such"),
    "run: vocab of others": (written("run/text/vocab", "a 3\nb 2\n"), USES_MODEL, "text/vocab"),
    "run: words, bytes": (written("run/overrides.yaml", BYTES), ("go on",), "overrides.yaml"),
    "run: words, no list": (written("run/overrides.yaml", "a: b"), ("go on",), "overrides.yaml"),
    "run: words, numbers": (written("run/overrides.yaml", "[1]"), ("go on",), "overrides.yaml"),
    "run: words, code": (
        written("run/overrides.yaml", "!!python/object/apply:os.system [touch exploded]"),
        ("go on",),
        "overrides.yaml",
    ),
    "run: config, bytes": (
        written("run/config.yaml", BYTES),
        ("go on", "generate"),
        "config.yaml is damaged",
    ),
    "run: config, a list": (
        written("run/config.yaml", "[]"),
        ("go on", "generate"),
        "config.yaml holds no keys",
    ),
    "run: config, code": (
        written("run/config.yaml", "data: !!python/object/apply:os.system [touch exploded]"),
        ("go on", "generate"),
        "config.yaml is damaged",
    ),
    "run: metrics, bytes": (
        written("run/metrics.csv", b"step,\xff\n1,2\n"),
        ("go on",),
        "metrics.csv is damaged",
    ),
    "run: metrics, no table": (
        written("run/metrics.csv", "once\nupon,a\n"),
        ("go on",),
        "metrics.csv is damaged",
    ),
    "text: gone": (lambda place: None, SCORES, "text: no such file"),
    "text: empty": (written("text", ""), SCORES, "text is empty"),
    "text: a folder": (lambda place: (place.root / "text").mkdir(), SCORES, "text"),
    "text: not UTF-8": (written("text", b"good\nb\xffd\n"), SCORES, "text, line 2: not UTF-8"),
    "text: UTF-16": (written("text", "good".encode("utf-16")), SCORES, "text, line 1: not UTF-8"),
    "text: too long": (written("text", "short\n" + "word " * 5000), SCORES, "line 2"),
}


@pytest.fixture(scope="session")
def model(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder and its data, before they are spoiled."""
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(crumbs_of(prepared), root / "data")
    words = [*WORDS, f"data.dir={root / 'data'}", f"run.dir={root / 'run'}"]
    steps = ["trainer.max_steps=10", "trainer.val_check_interval=5"]
    call("xlm-train", *words, *steps).expect()
    return root


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Place:
    shutil.copytree(model, tmp_path / "x", symlinks=True)
    config = tmp_path / "x" / "run" / "config.yaml"
    kept = yaml.safe_load(config.read_text())
    kept["data"]["dir"] = str(tmp_path / "x" / "data")
    config.write_text(yaml.safe_dump(kept))
    return Place(tmp_path / "x")


def test_all_is_accepted_before_it_is_spoiled(place: Place) -> None:
    (place.root / "text").write_text("a word\n")
    for command, program in PROGRAMS.items():
        call(program, *place.words(command)).expect()


def each_command() -> Iterator[Any]:
    """The first command of each case in the short form, the others in the long one."""
    for case, (_, commands, _) in FILES.items():
        for number, command in enumerate(commands):
            marks = [pytest.mark.slow] if number else []
            yield pytest.param(case, command, marks=marks, id=f"{case}, {command}")


@pytest.mark.parametrize(("case", "command"), list(each_command()))
def test_a_bad_file_is_named(
    case: str, command: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, _, said = FILES[case]
    monkeypatch.chdir(place.root)
    spoil(place)
    before = {file: file.lstat().st_size for file in place.root.rglob("*")}
    refused = call(PROGRAMS[command], *place.words(command)).expect(2)
    assert 1 <= len(refused.stderr.strip().splitlines()) <= 2, refused.stderr
    assert said in refused.stderr
    assert refused.stdout == ""
    after = {file: file.lstat().st_size for file in place.root.rglob("*")}
    left = after.keys() - before.keys()
    assert not [file for file in left if file.name.startswith(TEMPORARY_PREFIX)]
    assert not [file for file in left if file.suffix == ".ckpt"]
    assert not (place.root / "exported").exists()
    assert not (place.root / "exploded").exists()
    assert {file: size for file, size in after.items() if file in before} == before


NO_KEY = {"HOME": "/nowhere", "NETRC": "/nowhere/netrc"}
ONLINE = ("logger=wandb", "logger.wandb.mode=online")

# name: words more than those of `begin`, variables, what is told
SURROUNDINGS: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "run.dir that nobody may write": (("run.dir=/proc/x",), {}, "/proc/x"),
    "run.dir of a long name": (("run.dir=" + "x" * 300,), {}, "File name too long"),
    "run.dir a circle of links": (("run.dir=circle",), {}, "Too many levels of symbolic links"),
    "run.dir below a file": (("run.dir=file/x",), {}, "file is a file"),
    "a file for checkpoints": (("run.dir=taken",), {}, "taken/checkpoints cannot be written"),
    "a file for wandb": (("run.dir=taken", "logger=wandb"), {}, "taken/wandb is a file"),
    "a file for TensorBoard": (
        ("run.dir=taken", "logger=tensorboard"),
        {},
        "taken/tensorboard is a file",
    ),
    "no GPU": (("trainer.accelerator=gpu",), {}, "finds no GPU"),
    "a list of GPUs": (("trainer.devices=[0,1]",), {}, "on a CPU must be a number of processes"),
    "more processes than cores": (("trainer.devices=3000",), {}, "trainer.devices=3000: must be"),
    "a network that is not there": (
        ("trainer.network_interface=eth99",),
        {},
        "trainer.network_interface=eth99",
    ),
    "ranks of nobody": ((), {"RANK": "0", "WORLD_SIZE": "2"}, "RANK=0 of WORLD_SIZE=2"),
    "another number of ranks than torchrun's": (
        ("trainer.devices=3",),
        {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2", "RANK": "0"},
        "torchrun has started 2 processes",
    ),
    "a batch job without srun": (
        (),
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"},
        "srun",
    ),
    "a store that is not there": (
        ("data.dir=http://127.0.0.1:9/data", "data.retry_minutes=0"),
        {},
        "http://127.0.0.1:9/data",
    ),
    "a cache that nobody may write": (
        ("data.dir=http://127.0.0.1:9/data", "data.cache_dir=/proc/x"),
        {},
        "data.cache_dir=/proc/x",
    ),
}


@pytest.mark.parametrize("case", SURROUNDINGS)
def test_bad_surroundings_are_named(
    case: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, variables, said = SURROUNDINGS[case]
    monkeypatch.chdir(place.root)
    (place.root / "file").write_text("")
    (place.root / "circle").symlink_to("circle")
    (place.root / "taken").mkdir()
    name = {"a file for wandb": "wandb", "a file for TensorBoard": "tensorboard"}
    (place.root / "taken" / name.get(case, "checkpoints")).write_text("")
    refused = call("xlm-train", *place.words("begin"), *words, **variables).expect(2)
    told = refused.stderr.strip().splitlines()
    assert 1 <= len(told) <= 2, refused.stderr
    assert said in refused.stderr
    assert refused.stdout == ""
    assert not (place.root / "new" / "summary.json").exists()


def in_process_of_its_own(*words: str, **variables: str) -> str:
    """Start `xlm-train`, which refuses; what it says."""
    refused = subprocess.run(
        [str(SCRIPTS / "xlm-train"), *words],
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    return refused.stderr


@pytest.mark.slow
def test_a_port_in_use_is_named(place: Place) -> None:
    with socket.create_server(("", 0)) as server:
        port = str(server.getsockname()[1])
        words = (*place.words("begin"), "trainer.devices=2", "trainer.timeout_seconds=20")
        told = in_process_of_its_own(*words, MASTER_PORT=port)
    assert f"MASTER_PORT={port} is in use" in told


@pytest.mark.slow
def test_wandb_without_a_key_is_told(place: Place) -> None:
    """In a process of its own: wandb remembers in a process how it was begun."""
    told = in_process_of_its_own(*place.words("begin"), *ONLINE, **NO_KEY)
    assert "say logger.wandb.mode=offline" in told


@pytest.mark.slow
def test_wandb_with_half_a_key_is_told(place: Place) -> None:
    told = in_process_of_its_own(*place.words("begin"), *ONLINE, WANDB_API_KEY="short")
    assert "must have 40+ characters" in told


@pytest.mark.slow  # wandb tries for half a minute
def test_wandb_without_a_network_is_told(place: Place) -> None:
    nobody = {"WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    told = in_process_of_its_own(*place.words("begin"), *ONLINE, **nobody, WANDB_INIT_TIMEOUT="3")
    assert "connection refused; say logger.wandb.mode=offline" in told


def test_a_folder_of_another_user_is_named(place: Place) -> None:
    """Root may write anywhere, so that another user has to try."""
    skip_without(["setpriv"])
    place.root.chmod(0o755)
    for folder in place.root.parents:
        folder.chmod(folder.stat().st_mode | 0o055)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*user, sys.executable, "-c", ""], check=False).returncode != 0:
        pytest.skip("another user may not even start this Python")
    locked = place.root / "locked"
    locked.mkdir(mode=0o755)
    for key, program, words in (
        ("run.dir", "xlm-train", place.words("begin")),
        ("out", "xlm-export", place.words("export")),
        ("out", "xlm-prepare", ["corpus=sample_tiny"]),
    ):
        refused = subprocess.run(
            [*user, str(SCRIPTS / program), *words, f"{key}={locked / 'x'}"],
            env=environment() | {"HOME": "/nowhere"},
            cwd=place.root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert refused.returncode == 2, refused.stderr
        assert f"{key}={locked / 'x'}: {locked} may not be written" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_disk_that_fills_up_under_a_training_is_told(prepared: Path, tmp_path: Path) -> None:
    """In one line with the file's name; /dev/full refuses every byte, as a full disk does."""
    samples = tmp_path / "run" / "samples.md"
    samples.parent.mkdir()
    samples.symlink_to("/dev/full")
    steps = (
        "trainer.max_steps=6",
        "trainer.val_check_interval=5",
        "callbacks.samples.new_tokens=3",
    )
    words = (*WORDS, *steps, f"data.dir={crumbs_of(prepared)}", f"run.dir={samples.parent}")
    told = call("xlm-train", *words).expect(1).stderr.splitlines()[-1]
    assert told == (
        f"xlm-train: {samples} could not be written: No space left on device; make room, and run "
        "the same command again"
    )
    assert json.loads((samples.parent / "summary.json").read_text())["status"] == "failed"
