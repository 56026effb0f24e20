"""Checkpoints read back: which one is whole, and no foreign code is run."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from xlm_lightning.errors import UserError
from xlm_lightning.model import XLM
from xlm_lightning.run_folder import RunFolder
from xlm_lightning.trained import TrainedModel
from xlm_lightning.translator import Translator

Model = TypeVar("Model", bound=torch.nn.Module)

MODEL_KEY = "xlm_lightning"  # in a checkpoint: what rebuilds the model around its weights
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"  # a link to the newest of STEPS
_ARCHITECTURE = (
    "layers",
    "dim",
    "heads",
    "max_positions",
    "activation",
    "language_embeddings",
    "tied_output",
    "shared_embeddings",
)
STEPS = "step-*.ckpt"  # what a run can go on from


def language_model(
    checkpoint: Mapping[str, Any], file: Path, objective: str | None = None
) -> TrainedModel:
    """Return the language model that a checkpoint, read from `file`, holds.

    `objective`: which one of several the model is to be used for (None: the first).
    """
    described = checkpoint[MODEL_KEY]
    objectives = described.get("objectives", ["clm"])
    if objective not in (None, *objectives):
        raise UserError(f"objective={objective}: {file} was trained for {', '.join(objectives)}")
    model = rebuild(XLM, checkpoint, file)
    run = RunFolder(file.parent.parent)
    return TrainedModel(
        model,
        languages=described["languages"],
        objective=objective or objectives[0],
        stream_length=described["stream_length"],
        path=file,
        load_text_model=lambda: run.text_model(model.arguments["vocab_size"]),
        data_dir=run.data_dir(),
        facts={"steps": checkpoint["global_step"], "objectives": ", ".join(objectives)},
    )


def translates(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of a translation model and not of a language model."""
    return bool(checkpoint[MODEL_KEY].get("translates", False))


def rebuild(kind: Callable[..., Model], checkpoint: Mapping[str, Any], file: Path) -> Model:
    """Return the model that a checkpoint holds, in evaluation mode; `kind` is its class."""
    try:
        model = kind(**checkpoint[MODEL_KEY]["model"])
        model.load_state_dict(model_weights(checkpoint))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file} does not hold the model that it describes: {reason}") from error
    return model.eval()


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint file that `path` means: itself, or a run folder's best or last one."""
    if path.is_file():
        return path
    last = path / CHECKPOINTS / LAST
    best = sorted((path / CHECKPOINTS).glob("best-*.ckpt"))
    if len(best) > 1 and last.is_file():
        best = [file for file in best if file.name == _best_name(last)] or best
    if best:
        return best[-1]
    if last.is_file():
        return last
    raise UserError(f"checkpoint={path}: neither a file nor a run folder with {CHECKPOINTS}/{LAST}")


def _best_name(last: Path) -> str:
    """Name of the best of several checkpoints, as the run's own keeper remembers it."""
    for name, state in read_checkpoint(last)["callbacks"].items():
        if name.startswith("BestCheckpoint"):
            return Path(state["best_model_path"]).name
    return ""


def resume_point(resume: str, run: RunFolder) -> Path | None:
    """Return the checkpoint that a run goes on from, None for a new run.

    `resume`: `auto`, `never`, or a run folder or checkpoint. In a folder it is the newest one that
    proves whole; those passed over are told. Raises `UserError` where there are some and none is
    whole, and for a file that is damaged or holds weights only, before anything is written.
    """
    present = any(_resumable(run.checkpoints))
    if resume == "never" and present:
        raise UserError(
            f"run.dir={run.path} already holds a run; continue it with resume=auto, "
            "or choose another run.dir"
        )
    if resume == "never" or (resume == "auto" and not present):
        return None
    path = run.path if resume == "auto" else Path(resume)
    if path.is_dir():
        return newest_whole(path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path)
    if "optimizer_states" not in read_whole(path):
        raise UserError(
            f"resume={resume}: {path} holds weights only, so that training cannot go on exactly; "
            f"take {LAST}, or begin a new run with model.init_from={path}"
        )
    return path


def refuse_another_model(file: Path, model: XLM | Translator) -> None:
    """Raise `UserError` where the weights of a checkpoint are not for `model`."""
    checkpoint = read_checkpoint(file)
    if translates(checkpoint) != isinstance(model, Translator):
        was, now = "translates", "models language"
        if isinstance(model, Translator):
            was, now = now, was
        raise UserError(
            f"{file} was trained with another model: it {was}, and the objectives of now need one "
            f"that {now}; model.init_from={file.parent.parent} begins a new run with its weights"
        )
    before = checkpoint[MODEL_KEY]["model"]
    differing = [
        f"model.{name}={value}, not {before[name]}"
        for name, value in model.arguments.items()
        if name in _ARCHITECTURE and value != before[name]
    ]
    if differing:
        raise UserError(f"{file} was trained with another model: {'; '.join(differing)}")


def newest_whole(folder: Path) -> Path:
    """Return the checkpoint of the most steps that proves whole, and say which are passed over.

    A file proves whole by the SHA-256 that was written before it. How old it is stands in it: names
    can be changed.
    """
    passed_over: list[str] = []
    by_steps: list[tuple[int, str, Path]] = []
    for file in _resumable(folder):
        try:
            by_steps.append((read_checkpoint(file)["global_step"], file.name, file))
        except UserError as error:
            passed_over.append(str(error))
    for _, _, file in sorted(by_steps, reverse=True):
        complaint = _unproven(file)
        if complaint is None:
            for told in passed_over:
                print(f"passed over: {told}", file=sys.stderr)
            return file
        passed_over.append(complaint)
    why = "; ".join(passed_over) or "there is none"
    raise UserError(
        f"no checkpoint of {folder} is known to be whole: {why}\n"
        "resume=FILE takes one without a hash, resume=never with another run.dir starts anew"
    )


def _resumable(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob(STEPS))
    last = folder / LAST
    if last.is_symlink() and not last.is_file():
        yield last  # the file is gone: not a folder in which to begin anew
    elif last.is_file() and not last.is_symlink():
        yield last  # copied by a program that follows links


def _unproven(file: Path) -> str | None:
    """Return what is wrong with a file, None for one that is what was written."""
    written = _written_sha256(file)
    if written is None:
        return f"{file} has no {sha256_file(file).name} beside it"
    if written != _sha256(file):
        return f"{file} is not what was written (its SHA-256 differs)"
    return None


def sha256_file(file: Path) -> Path:
    """Where the hash of a checkpoint stands, as `sha256sum --check` reads it."""
    return file.with_name(f"{file.name}.sha256")


def _written_sha256(file: Path) -> str | None:
    told = sha256_file(file.resolve())
    return told.read_text("utf-8", errors="replace").partition(" ")[0] if told.is_file() else None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_whole(file: Path) -> dict[str, Any]:
    """Read a checkpoint that must agree with its hash, or else with the checksums of its parts."""
    hashed = file.is_file() and _written_sha256(file) is not None
    if hashed and (complaint := _unproven(file)):
        others = [other for other in file.resolve().parent.glob("*.ckpt") if not other.is_symlink()]
        whole = sorted(other.name for other in others if _unproven(other) is None)
        raise UserError(f"{complaint}; whole are {', '.join(whole) or 'none'} beside it")
    checkpoint = read_checkpoint(file)
    if not hashed and (part := _damaged_part(file)):
        raise UserError(f"checkpoint {file} is damaged in its part {part}; take another one")
    return checkpoint


def _damaged_part(file: Path) -> str | None:
    """Compare the parts of a zip file with its own checksums (CRC-32), which torch does not."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip()
    except Exception as error:  # a damaged file can make the reader raise anything
        return f"list ({type(error).__name__})"


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read one of our checkpoint files, plain containers and tensors only."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file can make the unpickler raise anything
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise UserError(f"checkpoint {file} cannot be read ({reason}); take another one") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(MODEL_KEY), dict):
        raise UserError(f"checkpoint {file} was not written by xlm-train")
    described = checkpoint[MODEL_KEY]
    lacking = [name for name in ("state_dict", "global_step") if name not in checkpoint]
    lacking += [name for name in ("model", "languages", "stream_length") if name not in described]
    if lacking:
        raise UserError(f"checkpoint {file} holds no {', '.join(lacking)}; take another one")
    return checkpoint


def checkpoint_bytes(model: XLM | Translator, precision: str) -> int:
    """Return about how large a checkpoint is: the weights, and two moments of Adam's for each."""
    bytes_of_one = 2 if precision in ("16-true", "bf16-true") else 4
    return 3 * bytes_of_one * sum(parameter.numel() for parameter in model.parameters())


def model_weights(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the model's tensors, named as in its class."""
    return {
        name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()
    }
