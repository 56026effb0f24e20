"""Stop at k + resume = straight run, micro-batch for micro-batch and bit for bit (one process)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import Run, ToyModel, data_module, make_trainer, read_log, train

from xlm_lightning.data import StreamingDataModule
from xlm_lightning.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


def checkpoint(out: Path, step: int) -> Path:
    return out / f"step={step}.ckpt"


def data_state(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)["StreamingDataModule"]


def assert_resumes_exactly(run: Run, steps: range) -> None:
    train(run)
    whole = read_log(run.out)
    assert [entry["slot"] for entry in whole] == list(range(run.steps * run.accumulate))
    for k in steps:
        again = replace(run, out=run.out / f"from-{k}", resume=checkpoint(run.out, k))
        train(again)
        assert read_log(again.out) == whole[k * run.accumulate :]
        assert (again.out / "weights").read_text() == (run.out / "weights").read_text()


@pytest.mark.parametrize("val_every", [0, 6], ids=["no-validation", "validation"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_at_every_step(
    small_folder: Path, tmp_path: Path, accumulate: int, val_every: int
) -> None:
    run = Run(small_folder, tmp_path, 7, accumulate=accumulate, val_every=val_every)
    assert_resumes_exactly(run, range(1, 7))
    hashes = [entry["sha256"] for entry in read_log(tmp_path)]
    assert len(set(hashes)) == len(hashes)


def test_resume_in_later_passes(short_folder: Path, tmp_path: Path) -> None:
    run = Run(short_folder, tmp_path, 16, val_every=6)  # 48 blocks of 24
    assert_resumes_exactly(run, range(1, 16))


def test_resume_with_workers(small_folder: Path, tmp_path: Path) -> None:
    run = Run(small_folder, tmp_path, 5, accumulate=2, workers=2, val_every=4)
    assert_resumes_exactly(run, range(2, 4))


def test_resume_with_a_scheduler_that_estimates_the_steps(
    small_folder: Path, tmp_path: Path
) -> None:
    # Lightning then builds the train loader before it restores its own state of it.
    run = Run(small_folder, tmp_path, 5, estimate=True)
    assert_resumes_exactly(run, range(2, 4))


def test_workers_do_not_change_the_order(small_folder: Path, tmp_path: Path) -> None:
    logs = []
    for workers in (0, 1, 2):
        run = Run(small_folder, tmp_path / str(workers), 6, workers=workers)
        train(run)
        logs.append(read_log(run.out))
    assert logs[0] == logs[1] == logs[2]


def test_a_finished_run_can_be_prolonged(small_folder: Path, tmp_path: Path) -> None:
    whole = Run(small_folder, tmp_path / "whole", 9, accumulate=2)
    short = replace(whole, out=tmp_path / "short", steps=4)
    rest = replace(whole, out=tmp_path / "rest", resume=checkpoint(short.out, 4))
    for run in (whole, short, rest):
        train(run)
    assert read_log(short.out) + read_log(rest.out) == read_log(whole.out)
    assert (rest.out / "weights").read_text() == (whole.out / "weights").read_text()


class UnsizedDataModule(StreamingDataModule):
    """Its train loader has no length, so Lightning fetches one batch ahead."""

    def train_dataloader(self) -> Any:
        loader = super().train_dataloader()

        class Unsized:
            def __iter__(self) -> Iterator[Any]:
                return iter(loader)

        return Unsized()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [StreamingDataModule, UnsizedDataModule])
def test_the_checkpoint_holds_consumed_slots(
    small_folder: Path, tmp_path: Path, kind: type[StreamingDataModule], workers: int
) -> None:
    run = Run(small_folder, tmp_path, 4, accumulate=2, workers=workers)
    data = data_module(run, kind)
    make_trainer(run).fit(ToyModel(run), datamodule=data)
    states = [
        torch.load(checkpoint(tmp_path, k), weights_only=True)[kind.__name__] for k in (1, 2, 3, 4)
    ]
    assert [state["slot"] for state in states] == [2, 4, 6, 8]
    assert all(sum(state["counts"].values()) == state["slot"] for state in states)


def test_no_false_warning_about_a_loader_that_cannot_resume(
    small_folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    run = Run(small_folder, tmp_path, 3)
    train(run)
    train(replace(run, resume=checkpoint(tmp_path, 2)))
    assert not [str(w.message) for w in recwarn if "resumable" in str(w.message)]


def test_loaders_leave_the_global_random_state_alone(small_folder: Path, tmp_path: Path) -> None:
    run = Run(small_folder, tmp_path, 3, workers=1, val_every=2)
    model = ToyModel(run)
    torch.manual_seed(5)
    make_trainer(run).fit(model, datamodule=data_module(run))
    after = torch.rand(())
    torch.manual_seed(5)
    assert after == torch.rand(())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 12}, "seed is 12, the checkpoint has 11; set seed=11"),
        ({"batch_size": 4}, "batch_size is 4, the checkpoint has 3; set data.batch_size=3"),
        ({"stream_length": 32}, "stream_length is 32, the checkpoint has 64"),
        (
            {"overfit_slots": 1},
            "overfit_slots is 1, the checkpoint has None; set data.overfit_slots=null",
        ),
        ({"alpha": 0.5}, "alpha is 0.5, the checkpoint has 0.7; set data.alpha=0.7"),
        (
            {"shares": {"de": 0.5, "en": 1.0}},
            "shares is {'de': 0.5}, the checkpoint has None; give data.shares the same values",
        ),
    ],
)
def test_other_data_is_refused(
    small_folder: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    run = Run(small_folder, tmp_path, 2)
    train(run)
    with pytest.raises(UserError, match=words):
        _resume(run, data_module(run, **change))


def test_a_share_of_the_text_is_not_forgotten(small_folder: Path, tmp_path: Path) -> None:
    run = Run(small_folder, tmp_path, 2)
    make_trainer(run).fit(ToyModel(run), datamodule=data_module(run, shares={"de": 0}))
    assert {row["language"] for row in read_log(run.out)} == {1}
    with pytest.raises(UserError, match=r"shares is None, the checkpoint has \{'de': 0\}"):
        _resume(run, data_module(run))
    _resume(run, data_module(run, shares={"de": 0, "en": 1}))


def test_another_corpus_is_refused(small_folder: Path, tmp_path: Path, make_folder: Any) -> None:
    run = Run(small_folder, tmp_path, 2)
    train(run)
    sizes = {"train": {"de": [512], "en": [768]}}
    other = replace(run, folder=make_folder(tmp_path / "other", sizes))
    with pytest.raises(UserError, match=r"manifest_sha256 is .* set data.dir to the folder"):
        _resume(run, data_module(other))


def test_another_plan_is_refused(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(small_folder, tmp_path, 2)
    train(run)
    with monkeypatch.context() as patch:
        patch.setattr("xlm_lightning.data.PLAN_VERSION", 99)
        with pytest.raises(UserError, match="plan_version is 99, the checkpoint has 1"):
            _resume(run, data_module(run))
    monkeypatch.setattr("xlm_lightning.streaming.plan.Plan.counts", lambda *_: {"de": 2, "en": 0})
    with pytest.raises(UserError, match=r"counts is .* use the numpy version"):
        _resume(run, data_module(run))


def test_another_number_of_slots_a_step_is_refused(small_folder: Path, tmp_path: Path) -> None:
    run = Run(small_folder, tmp_path, 2)
    train(run)
    with pytest.raises(UserError, match="slots_per_step is 2, the checkpoint has 1"):
        train(replace(run, accumulate=2, resume=checkpoint(tmp_path, 1)))
    with pytest.raises(UserError, match=r"1 ranks x .* make 1 micro-batches a step"):
        _resume(run, data_module(run, slots_per_step=3))


def test_a_checkpoint_without_data_is_refused(small_folder: Path, tmp_path: Path) -> None:
    run = Run(small_folder, tmp_path, 2)
    train(run)
    content = torch.load(checkpoint(tmp_path, 1), weights_only=True)
    del content["StreamingDataModule"]
    torch.save(content, checkpoint(tmp_path, 1))
    with pytest.raises(UserError, match="no state of the data"):
        _resume(run, data_module(run))


def test_a_checkpoint_may_be_evaluated_on_other_data(
    small_folder: Path, tmp_path: Path, make_folder: Any
) -> None:
    run = Run(small_folder, tmp_path, 2)
    train(run)
    sizes = {"train": {"de": [512], "en": [768]}, "valid": {"en": [5], "de": [300]}}
    other = data_module(replace(run, folder=make_folder(tmp_path / "other", sizes)), seed=3)
    model = ToyModel(run)
    make_trainer(run, limit_val_batches=None).validate(
        model, datamodule=other, ckpt_path=checkpoint(tmp_path, 1), weights_only=True
    )
    assert model.scored == 305


def test_validation_scores_a_prefix_during_training_and_all_on_its_own(
    small_folder: Path, tmp_path: Path
) -> None:
    run = Run(small_folder, tmp_path, 2, val_every=2)
    model = ToyModel(run)
    data = data_module(run, max_valid_tokens=400)
    make_trainer(run).fit(model, datamodule=data)
    assert model.scored == 300 + 400
    model.scored = 0
    make_trainer(run, limit_val_batches=None).validate(model, datamodule=data)
    assert model.scored == 300 + 1200


def _resume(run: Run, data: StreamingDataModule) -> None:
    make_trainer(run).fit(
        ToyModel(run), datamodule=data, ckpt_path=checkpoint(run.out, 1), weights_only=True
    )


def test_steps_and_slots_that_disagree_are_no_run(small_folder: Path, tmp_path: Path) -> None:
    run = Run(small_folder, tmp_path, 4, accumulate=2)
    train(run)
    written = checkpoint(tmp_path, 2)
    state = torch.load(written, weights_only=True)
    data = data_module(run)
    state["StreamingDataModule"] |= {"slot": 6, "counts": data.plan.counts(6)}
    torch.save(state, written)
    with pytest.raises(RuntimeError, match="3 steps of data are consumed after 2"):
        train(replace(run, out=tmp_path / "again", resume=written))


def test_a_slot_that_was_not_due_is_not_trained_on(small_folder: Path, tmp_path: Path) -> None:
    class Skipping(StreamingDataModule):
        def train_dataloader(self) -> Any:
            loader = super().train_dataloader()

            class WithoutTheFirst:
                def __iter__(self) -> Iterator[Any]:
                    batches = iter(loader)
                    next(batches)
                    yield from batches

            return WithoutTheFirst()

    run = Run(small_folder, tmp_path, 2)
    with pytest.raises(RuntimeError, match="slot 1 came when 0 was due"):
        make_trainer(run).fit(ToyModel(run), datamodule=data_module(run, Skipping))
