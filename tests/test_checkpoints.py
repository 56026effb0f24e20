"""Checkpoints: which are kept, which prove whole, and how a run goes on from them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from crumbs import crumbs_of
from in_process import call
from training import WORDS

from xlm_lightning.callbacks.best_checkpoint import BestCheckpoint
from xlm_lightning.callbacks.last_checkpoint import LastCheckpoint
from xlm_lightning.checkpoint import newest_whole, resume_point, sha256_file
from xlm_lightning.checkpoint_writer import CheckpointWriter
from xlm_lightning.errors import RunFailed, UserError
from xlm_lightning.recall import changes, recalled
from xlm_lightning.run_folder import RunFolder


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (
        *WORDS,
        f"data.dir={crumbs_of(prepared)}",
        "trainer.max_steps=12",
        "trainer.val_check_interval=4",
        "schedule.warmup_steps=0",
    )


@pytest.fixture(scope="module")
def finished(words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    call("xlm-train", *words, "checkpoint.every_n_steps=3", f"run.dir={folder}").expect()
    return folder


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))


def steps_of(folder: Path) -> list[int]:
    return sorted(int(file.stem[5:]) for file in (folder / "checkpoints").glob("step-*.ckpt"))


def flip_a_bit(file: Path, byte: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(byte)
        (value,) = opened.read(1)
        opened.seek(byte)
        opened.write(bytes([value ^ 1]))


# --- what is kept ---------------------------------------------------------------------------------
def test_the_keeper_of_the_best_remembers_a_worse_validation(tmp_path: Path) -> None:
    """All that it saves: a resumed run whose last validation is not its best one ends alike."""
    best, score = tmp_path / "best-00000004.ckpt", torch.tensor(5.0)
    best.touch()
    keeper = BestCheckpoint(tmp_path, monitor="bleu", mode="max", save_top_k=1)
    keeper.best_k_models = {str(best): score}
    keeper.best_model_path = keeper.kth_best_model_path = str(best)
    keeper.best_model_score = keeper.kth_value = score
    keeper.current_score = torch.tensor(3.0)
    other = BestCheckpoint(tmp_path, monitor="bleu", mode="max", save_top_k=1)
    other.load_state_dict(keeper.state_dict())
    assert other.state_dict() == keeper.state_dict()


def test_the_newest_ones_stay_each_with_its_hash(finished: Path) -> None:
    assert steps_of(finished) == [9, 12]
    last = finished / "checkpoints" / "last.ckpt"
    assert last.is_symlink()
    assert last.resolve().name == "step-00000012.ckpt"
    files = [f for f in (finished / "checkpoints").glob("*.ckpt") if not f.is_symlink()]
    assert {file.name[:5] for file in files} == {"step-", "best-"}
    for file in files:
        told, name = sha256_file(file).read_text().split()
        assert (told, name) == (hashlib.sha256(file.read_bytes()).hexdigest(), file.name)
    hashes = {file.name.removesuffix(".sha256") for file in last.parent.glob("*.sha256")}
    assert hashes == {file.name for file in files}


def test_some_stay_for_good(words: tuple[str, ...], tmp_path: Path) -> None:
    kept = ("checkpoint.keep_last=1", "checkpoint.keep_every_n_steps=4")
    call(
        "xlm-train", *words, *kept, "checkpoint.every_n_steps=2", f"run.dir={tmp_path / 'run'}"
    ).expect()
    assert steps_of(tmp_path / "run") == [4, 8, 12]


@pytest.mark.parametrize("keep", [1, 2, 3, 5, 6, 7, 100])
def test_as_many_stay_as_were_asked_for(tmp_path: Path, keep: int) -> None:
    last = LastCheckpoint(
        tmp_path, CheckpointWriter(), every_n_steps=1, keep=keep, keep_every_n_steps=None
    )
    for step in range(1, 7):
        file = tmp_path / f"step-{step:08d}.ckpt"
        file.touch()
        last._point_to(file, step)
        kept = sorted(int(found.stem[5:]) for found in tmp_path.glob("step-*.ckpt"))
        assert kept == list(range(max(1, step - keep + 1), step + 1))


def test_a_run_that_goes_back_leaves_nothing_ahead_of_it(
    words: tuple[str, ...], run_folder: Path
) -> None:
    """Else a kill would be followed by what was left on purpose."""
    point = run_folder / "checkpoints" / "step-00000009.ckpt"
    call(
        "xlm-train",
        *words,
        f"run.dir={run_folder}",
        f"resume={point}",
        "trainer.max_steps=10",
        "checkpoint.every_n_steps=3",
    ).expect()
    assert steps_of(run_folder) == [9, 10]
    assert not list(run_folder.glob("checkpoints/best-00000012*")), "of the way not taken"


def test_a_copied_folder_leaves_the_original_alone(
    words: tuple[str, ...], finished: Path, run_folder: Path
) -> None:
    """Lightning would score, and then remove, the best weights of the folder it was copied from."""
    before = {file.name for file in finished.rglob("*")}
    outcome = call("xlm-train", f"run.dir={run_folder}", "trainer.max_steps=60").expect()
    assert Path(outcome.result["best_checkpoint"]).parent == run_folder / "checkpoints"
    assert len(list(run_folder.glob("checkpoints/best-*.ckpt"))) == 1
    assert {file.name for file in finished.rglob("*")} == before


# --- which one is gone on from --------------------------------------------------------------------
def test_the_newest_whole_one_is_taken_and_the_others_are_told(
    words: tuple[str, ...], run_folder: Path
) -> None:
    damaged = run_folder / "checkpoints" / "step-00000012.ckpt"
    flip_a_bit(damaged, damaged.stat().st_size // 2)
    outcome = call("xlm-train", *words, f"run.dir={run_folder}").expect()
    assert f"passed over: {damaged} is not what was written" in outcome.stderr
    assert "going on from" in outcome.stderr
    assert "step-00000009.ckpt" in outcome.stderr
    assert outcome.result["steps"] == 12
    assert newest_whole(run_folder / "checkpoints") == damaged, "it was not written anew"


def test_a_run_without_a_whole_checkpoint_does_not_begin_anew(
    words: tuple[str, ...], run_folder: Path
) -> None:
    (run_folder / "checkpoints" / "step-00000012.ckpt").write_bytes(b"")
    sha256_file(run_folder / "checkpoints" / "step-00000009.ckpt").unlink()
    refused = call("xlm-train", *words, f"run.dir={run_folder}").expect(2)
    assert "step-00000012.ckpt cannot be read" in refused.stderr
    assert "step-00000009.ckpt has no step-00000009.ckpt.sha256 beside it" in refused.stderr
    assert "resume=FILE" in refused.stderr
    named = run_folder / "checkpoints" / "step-00000009.ckpt"
    call("xlm-train", *words, f"run.dir={run_folder}", f"resume={named}").expect()


def test_a_link_to_nothing_is_no_new_run(run_folder: Path) -> None:
    for file in (run_folder / "checkpoints").glob("step-*"):
        file.unlink()
    with pytest.raises(UserError, match=r"last\.ckpt cannot be read"):
        resume_point("auto", RunFolder(run_folder))


def test_a_named_file_must_be_what_was_written(run_folder: Path) -> None:
    damaged = run_folder / "checkpoints" / "step-00000012.ckpt"
    flip_a_bit(damaged, 5000)
    for command in ("xlm-train", "xlm-evaluate", "xlm-export"):
        word = "resume" if command == "xlm-train" else "checkpoint"
        more = {"xlm-evaluate": ["text=x", "language=de"], "xlm-export": ["out=x"]}.get(command, [])
        refused = call(command, f"{word}={damaged}", *more).expect(2)
        assert f"{damaged} is not what was written" in refused.stderr
        assert "step-00000009.ckpt" in refused.stderr, "no way out"


def test_the_steps_in_a_file_count_and_not_its_name(run_folder: Path) -> None:
    checkpoints = run_folder / "checkpoints"
    for file in ("step-00000009.ckpt", "step-00000012.ckpt"):
        for name in (file, f"{file}.sha256"):
            (checkpoints / name).rename(checkpoints / name.replace("12", "02"))
    assert newest_whole(checkpoints).name == "step-00000002.ckpt"


@pytest.mark.parametrize("seed", range(3))
def test_every_flipped_bit_is_found(run_folder: Path, seed: int) -> None:
    """`tests/chaos/flips.py` does it a thousand times."""
    last = (run_folder / "checkpoints" / "last.ckpt").resolve()
    generator = torch.Generator().manual_seed(seed)
    for byte in torch.randint(last.stat().st_size, (10,), generator=generator).tolist():
        flip_a_bit(last, byte)
        assert newest_whole(last.parent).name == "step-00000009.ckpt"
        flip_a_bit(last, byte)
        assert newest_whole(last.parent) == last


def test_another_architecture_is_told_by_its_keys(words: tuple[str, ...], run_folder: Path) -> None:
    refused = call("xlm-train", *words, f"run.dir={run_folder}", "model.layers=3").expect(2)
    assert "was trained with another model: model.layers=3, not " in refused.stderr


# --- the words of before --------------------------------------------------------------------------
def test_a_folder_remembers_what_it_was_started_with(
    words: tuple[str, ...], run_folder: Path
) -> None:
    outcome = call(
        "xlm-train", f"run.dir={run_folder}", "trainer.max_steps=14", "optimizer.lr=1e-5"
    ).expect()
    assert outcome.result["steps"] == 14
    assert "changed: trainer.max_steps: 12 -> 14" in outcome.stderr
    assert "changed: optimizer.lr: " in outcome.stderr
    assert outcome.stderr.count("changed: ") == 2
    kept = yaml.safe_load((run_folder / "overrides.yaml").read_text())
    assert {word for word in words if "max_steps" not in word} <= {*kept}
    again = call("xlm-train", f"run.dir={run_folder}").expect()
    assert again.result["steps"] == 14
    assert "changed: " not in again.stderr


def test_words_are_recalled_only_to_go_on(run_folder: Path, tmp_path: Path) -> None:
    here = f"run.dir={run_folder}"
    assert recalled([here]) != [here]
    for other in ([here, "resume=never"], [here, "-m"], [f"run.dir={tmp_path}"], ["seed=1"], []):
        assert recalled(other) == other
    assert recalled([here, "++seed=5"])[-2:] == [here, "++seed=5"]


def test_words_of_before_a_renaming_are_recalled_by_the_new_name(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    words = ["data.dir=pair_tokens", "data.pair_tokens=200", "++data.pair_max_length=50"]
    (tmp_path / "overrides.yaml").write_text(yaml.safe_dump(words))
    here = f"run.dir={tmp_path}"
    assert recalled([here, "data.sentence_tokens=9"]) == [
        "data.dir=pair_tokens",
        "++data.sentence_max_length=50",
        here,
        "data.sentence_tokens=9",
    ]


def test_changes_name_old_and_new() -> None:
    before = {"seed": 1, "model": {"dim": 4, "heads": 2}, "resume": "auto"}
    now = {"seed": 1, "model": {"dim": 8, "depth": 2}, "resume": "x"}
    assert changes(before, now) == [
        "model.depth: not set -> 2",
        "model.dim: 4 -> 8",
        "model.heads: 2 -> not set",
    ]


def test_another_order_of_the_data_is_refused_unless_asked_for(
    words: tuple[str, ...], run_folder: Path
) -> None:
    changed = (f"run.dir={run_folder}", "data.slots_per_step=2", "trainer.max_steps=20")
    refused = call("xlm-train", *changed).expect(2)
    assert "cannot resume: slots_per_step is 2, the checkpoint has 4" in refused.stderr
    assert "data.reorder=true" in refused.stderr
    outcome = call("xlm-train", *changed, "data.reorder=true").expect()
    assert "slots_per_step is 2, was 4: the data begins anew" in outcome.stderr
    assert outcome.result["steps"] == 20
    checkpoint = torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["StreamingDataModule"]["slot"] == 2 * (20 - 12)


# --- one process at a time ------------------------------------------------------------------------
def test_two_runs_do_not_share_a_folder(words: tuple[str, ...], run_folder: Path) -> None:
    hold = (
        "import fcntl, sys; file = open(sys.argv[1], 'a+b'); fcntl.lockf(file, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(run_folder / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        refused = call("xlm-train", *words, f"run.dir={run_folder}").expect(2)
        assert f"run.dir={run_folder}: another process is training in it" in refused.stderr
        other.communicate()
    call("xlm-train", *words, f"run.dir={run_folder}").expect()


def test_what_a_kill_has_left_is_removed(words: tuple[str, ...], run_folder: Path) -> None:
    left = [run_folder / ".partial-1-x", run_folder / "checkpoints" / ".partial-2-step-3.ckpt"]
    for file in left:
        file.write_bytes(b"half")
    call("xlm-train", *words, f"run.dir={run_folder}").expect()
    assert not any(file.exists() for file in left)


# --- the writer -----------------------------------------------------------------------------------
def test_a_kill_before_the_link_is_made_up_for(words: tuple[str, ...], run_folder: Path) -> None:
    """Also where training is done, and saves nothing more."""
    last = run_folder / "checkpoints" / "last.ckpt"
    last.unlink()
    last.symlink_to("step-00000009.ckpt")
    for name in ("step-00000006.ckpt", "step-00000006.ckpt.sha256"):
        shutil.copy(last.with_name(name.replace("06.", "09.")), last.with_name(name))
    (last.parent / "step-00000003.ckpt.sha256").write_text("the file of which is removed")
    call("xlm-train", *words, "checkpoint.every_n_steps=3", f"run.dir={run_folder}").expect()
    assert last.readlink() == Path("step-00000012.ckpt")
    assert steps_of(run_folder) == [9, 12]
    assert not list(last.parent.glob("step-0000000[36]*"))


@pytest.fixture
def writer() -> Iterator[CheckpointWriter]:
    return CheckpointWriter()


def test_training_goes_on_while_a_file_is_written(writer: CheckpointWriter, tmp_path: Path) -> None:
    """What is written is what was given, though the tensors change in the meantime."""
    go_on = threading.Event()
    writer.then(lambda: go_on.wait(60) and None)
    weights = torch.zeros(1000)
    writer.save_checkpoint({"a": weights, "b": [weights[:10]], "n": {"step": 3}}, tmp_path / "x")
    weights += 1
    assert not (tmp_path / "x").exists()
    go_on.set()
    writer.wait()
    read = torch.load(tmp_path / "x", weights_only=True)
    assert read["n"] == {"step": 3}
    assert not read["a"].any()
    assert not read["b"][0].any()


def test_what_shares_memory_is_written_once(writer: CheckpointWriter, tmp_path: Path) -> None:
    table = torch.zeros(100_000)
    writer.save_checkpoint({"words": table, "output": table.detach()}, tmp_path / "x")
    writer.wait()
    assert (tmp_path / "x").stat().st_size < 1.2 * 4 * 100_000


def test_copies_in_memory_are_bounded(writer: CheckpointWriter, tmp_path: Path) -> None:
    """The third one waits until the first is written."""
    go_on = threading.Event()
    writer.then(lambda: go_on.wait(60) and None)
    writer.save_checkpoint({"a": torch.zeros(1)}, tmp_path / "0")
    third = threading.Thread(
        target=writer.save_checkpoint, args=({"a": torch.zeros(1)}, tmp_path / "1")
    )
    third.start()
    third.join(0.3)
    assert third.is_alive(), "it did not wait"
    go_on.set()
    third.join(60)
    writer.wait()
    assert (tmp_path / "1").is_file()


def test_an_error_of_the_disk_is_told_and_nothing_follows_it(
    writer: CheckpointWriter, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    followed: list[int] = []
    writer.save_checkpoint({"a": torch.zeros(1)}, tmp_path / "file" / "x")
    writer.then(lambda: followed.append(1))
    with pytest.raises((RunFailed, FileExistsError, NotADirectoryError)):
        writer.wait()
    with pytest.raises((RunFailed, FileExistsError, NotADirectoryError)):
        writer.wait()
    assert not followed
    writer.save_checkpoint({"a": torch.zeros(1)}, tmp_path / "y")
    writer.wait()
    assert (tmp_path / "y").is_file()


def test_files_go_in_the_order_in_which_they_were_asked_for(
    writer: CheckpointWriter, tmp_path: Path
) -> None:
    """The best one so far is there until the better one is."""
    seen: list[set[str]] = []
    for number in range(3):
        writer.save_checkpoint({"a": torch.zeros(10)}, tmp_path / f"{number}")
        writer.then(lambda: seen.append({f.name for f in tmp_path.iterdir()}))
        writer.remove_checkpoint(tmp_path / f"{number - 1}")
    writer.wait()
    assert seen == [
        {"0", "0.sha256"},
        {"0", "0.sha256", "1", "1.sha256"},
        {"1", "1.sha256", "2", "2.sha256"},
    ]
