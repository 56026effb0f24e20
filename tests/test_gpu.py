"""What only a GPU shows; skipped without one. The commands as users type them, the model beside the
CPU's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from crumbs import crumbs_of
from in_process import call
from training import WORDS

from xlm_lightning.checkpoint import newest_whole, read_checkpoint
from xlm_lightning.model import XLM

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first matrix product

PRECISIONS = ("32", "16-mixed", "bf16-mixed")
SHAPE = {"vocab_size": 97, "num_languages": 2, "layers": 3, "dim": 32, "heads": 4}


@pytest.fixture(scope="module")
def words(prepared: Path) -> tuple[str, ...]:
    return (
        *WORDS,
        f"data.dir={crumbs_of(prepared)}",
        "trainer.accelerator=gpu",
        "trainer.max_steps=12",
        "trainer.val_check_interval=4",
        "checkpoint.every_n_steps=3",
        "checkpoint.keep_last=9",
    )


@pytest.fixture(scope="module")
def trained(
    words: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Precision -> run folder and summary."""
    runs = {}
    for precision in PRECISIONS:
        folder = tmp_path_factory.mktemp(precision) / "run"
        more = (f"trainer.precision={precision}", f"run.dir={folder}")
        runs[precision] = (folder, call("xlm-train", *words, *more).expect().result)
    return runs


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_precision_asked_for_is_used(
    trained: dict[str, tuple[Path, dict[str, Any]]], precision: str
) -> None:
    _, result = trained[precision]
    assert result["accelerator"] == "cuda"
    assert result["precision"] == {"32": "32-true"}.get(precision, precision)
    assert result["steps"] == 12
    for language in ("de", "en"):
        assert result["valid"][language]["perplexity"] < 5000


@pytest.mark.parametrize("more", [[], ["data.workers=2"]], ids=["alone", "two_workers"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_seed_gives_the_same_bits(
    words: tuple[str, ...],
    trained: dict[str, tuple[Path, dict[str, Any]]],
    tmp_path: Path,
    precision: str,
    more: list[str],
) -> None:
    again = (f"trainer.precision={precision}", f"run.dir={tmp_path / 'again'}", *more)
    told = call("xlm-train", *words, *again).expect().result
    assert told["weights_sha256"] == trained[precision][1]["weights_sha256"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_resumed_run_has_the_same_bits(
    words: tuple[str, ...],
    trained: dict[str, tuple[Path, dict[str, Any]]],
    tmp_path: Path,
    precision: str,
) -> None:
    whole, result = trained[precision]
    resumed = Path(shutil.copytree(whole, tmp_path / "resumed", symlinks=True))
    for step in ("09", "12"):
        (resumed / "checkpoints" / f"step-000000{step}.ckpt").unlink()
    more = (f"trainer.precision={precision}", f"run.dir={resumed}")
    told = call("xlm-train", *words, *more).expect()
    assert "step-00000006.ckpt" in told.stderr
    assert told.result["weights_sha256"] == result["weights_sha256"]
    ours, theirs = (read_checkpoint(newest_whole(x / "checkpoints")) for x in (resumed, whole))
    assert ours.get("MixedPrecision") == theirs.get("MixedPrecision")


def test_fp16_finds_its_scale_and_goes_on(words: tuple[str, ...], tmp_path: Path) -> None:
    """The gradient of a first loss overflows at the scaler's first scale, 65,536, now and then."""
    more = ("trainer.precision=16", "trainer.max_steps=60", f"run.dir={tmp_path / 'run'}")
    told = call("xlm-train", *words, *more, "optimizer.lr=3e-3").expect().result
    state = read_checkpoint(newest_whole(tmp_path / "run" / "checkpoints"))["MixedPrecision"]
    assert state["scale"] == 2.0**16 / 2 ** told["skipped_steps"]
    assert told["valid"]["mean"]["perplexity"] < 500


@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_the_distributed_strategies_on_one_gpu(
    words: tuple[str, ...],
    trained: dict[str, tuple[Path, dict[str, Any]]],
    tmp_path: Path,
    trainer: str,
) -> None:
    precision = "32" if trainer == "fsdp" else "16-mixed"
    more = (f"trainer={trainer}", "trainer.devices=1", f"trainer.precision={precision}")
    told = call("xlm-train", *words, *more, f"run.dir={tmp_path / 'run'}").expect().result
    ours, alone = (
        outcome["valid"]["mean"]["perplexity"] for outcome in (told, trained[precision][1])
    )
    assert ours == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize("objective", ["mlm", "tlm", "mlm_tlm"])
def test_other_objectives(words: tuple[str, ...], tmp_path: Path, objective: str) -> None:
    more = (f"objective={objective}", "trainer.precision=16", "schedule.warmup_steps=0")
    told = call("xlm-train", *words, *more, f"run.dir={tmp_path / 'run'}").expect().result
    assert told["steps"] == 12
    assert told["accelerator"] == "cuda"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_translation_gives_the_same_bits(
    words: tuple[str, ...], tmp_path: Path, precision: str
) -> None:
    """Back-translations are made under autocast, inside a step with deterministic kernels."""
    more = ("objective=unmt", "data.sentence_tokens=100", f"trainer.precision={precision}")
    results = [
        call("xlm-train", *words, *more, f"run.dir={tmp_path / name}").expect().result
        for name in ("one", "other")
    ]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert results[0]["valid"] == results[1]["valid"]
    assert results[0]["valid"]["de-en"]["sentences"] == 20
    text = ("source=de", "target=en", "text=Der Mann kommt.", "accelerator=gpu")
    told = call("xlm-translate", f"checkpoint={tmp_path / 'one'}", *text).expect().result
    assert len(told["texts"]) == 1


def test_a_cpu_and_a_gpu_score_and_write_the_same(
    trained: dict[str, tuple[Path, dict[str, Any]]],
) -> None:
    folder, _ = trained["16-mixed"]
    scores, texts = {}, {}
    for accelerator in ("cpu", "gpu"):
        where = (f"checkpoint={folder}", f"accelerator={accelerator}")
        scored = call("xlm-evaluate", *where).expect().result
        scores[accelerator] = scored["mean"]["perplexity"]
        how = ("language=de", "prompt=Der", "temperature=0", "max_new_tokens=20")
        texts[accelerator] = call("xlm-generate", *where, *how).expect().result["texts"]
    assert scores["gpu"] == pytest.approx(scores["cpu"], rel=1e-4)
    assert texts["gpu"] == texts["cpu"]


@pytest.mark.parametrize("precision", ["32", "16-mixed"])
def test_the_energy_of_a_gpu(words: tuple[str, ...], tmp_path: Path, precision: str) -> None:
    pytest.importorskip("codecarbon")
    more = ("carbon=true", "energy.country=DEU", f"trainer.precision={precision}")
    told = call("xlm-train", *words, *more, f"run.dir={tmp_path / 'run'}").expect().result
    assert told["energy"]["gpu_kwh"] > 0
    assert "GPU: read from its driver" in told["energy"]["method"]


@pytest.mark.parametrize("causal", [True, False])
def test_the_model_beside_the_cpu(causal: bool) -> None:
    """The same loss and gradients in fp32, padding included, whose kernels differ."""
    torch.manual_seed(0)
    model = XLM(**SHAPE, dropout=0.0, attention_dropout=0.0).train()
    tokens = torch.randint(14, 97, (4, 70))
    lengths = None if causal else torch.tensor([70, 3, 65, 64])
    targets = torch.randint(14, 97, (4, 70))
    if lengths is not None:
        targets[torch.arange(70) >= lengths[:, None]] = -100
    losses, gradients = [], []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        there = None if lengths is None else lengths.to(device)
        hidden = model(
            tokens.to(device), torch.tensor([[1]], device=device), causal=causal, lengths=there
        )
        loss = model.loss(hidden, targets.to(device))
        loss.backward()
        losses.append(loss.item())
        # Copies, since `to` takes the gradients along.
        gradients.append([p.grad.cpu().clone() for p in model.parameters() if p.grad is not None])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for there, here in zip(*reversed(gradients), strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-5)


def losses_and_gradients(
    dtype: torch.dtype, steps: int = 3, **options: Any
) -> tuple[list[float], list[torch.Tensor]]:
    """Steps of a model of the published width, as `xlm-train` makes them."""
    torch.manual_seed(0)
    wide = {"vocab_size": 8191, "num_languages": 2, "layers": 2, "dim": 1024, "heads": 8}
    model = XLM(**wide, **options).cuda().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(14, 8191, (8, 257), device="cuda")
    language = torch.zeros(1, 1, dtype=torch.int64, device="cuda")
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            loss = model.loss(model(tokens[:, :-1], language), tokens[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.grad for p in model.parameters() if p.grad is not None]


DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """As in a training step of `xlm-train`."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("compile_on_gpu", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_published_width_gives_the_same_bits(
    deterministic: None, dtype: torch.dtype, compile_on_gpu: bool
) -> None:
    """Its kernels are others than those of a tiny model."""
    losses, gradients = losses_and_gradients(dtype, compile_on_gpu=compile_on_gpu)
    for _ in range(3):
        again, theirs = losses_and_gradients(dtype, compile_on_gpu=compile_on_gpu)
        assert again == losses
        assert all(map(torch.equal, gradients, theirs))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_compiled_model_is_the_same_model(dtype: torch.dtype) -> None:
    """Without dropout, whose random numbers the compiler draws in another order."""
    options = {"dropout": 0.0, "attention_dropout": 0.0}
    losses, gradients = losses_and_gradients(dtype, 1, **options)
    compiled, theirs = losses_and_gradients(dtype, 1, **options, compile_on_gpu=True)
    rough = dtype != torch.float32
    assert compiled == pytest.approx(losses, rel=2e-3 if rough else 1e-5)
    for ours, reference in zip(theirs, gradients, strict=True):
        difference = (ours - reference).norm() / reference.norm()
        assert difference < (0.1 if rough else 1e-3)


@pytest.mark.parametrize("compile_on_gpu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradient_checkpointing_drops_the_same_elements_twice(
    dtype: torch.dtype, compile_on_gpu: bool
) -> None:
    options = {"compile_on_gpu": compile_on_gpu}
    losses, gradients = losses_and_gradients(dtype, **options)
    again, theirs = losses_and_gradients(dtype, **options, gradient_checkpointing=True)
    assert again == losses
    assert all(map(torch.equal, gradients, theirs))
