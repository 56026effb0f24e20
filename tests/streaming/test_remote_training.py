"""Training and scoring from an object store: the same to the bit, whatever the store does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome, run, run_and_signal
from crumbs import crumbs_of
from in_process import call
from object_store import (
    ACCOUNT,
    Fault,
    Proxy,
    in_small_shards,
    proxy_of,
    s3_server,
    size_of,
    upload,
)

from xlm_lightning.manifest import Manifest

# 24 steps of 2 slots of 256 tokens go through windows of 4 shards of 256 tokens.
WORDS = (
    "experiment=debug",
    "data.prepare=null",
    "trainer.accelerator=cpu",
    "trainer.precision=32",
    "trainer.max_steps=24",
    "trainer.val_check_interval=12",
    "checkpoint.every_n_steps=4",
    "callbacks.samples.new_tokens=0",
    "data.batch_size=8",
    "data.stream_length=32",
    "data.slots_per_step=2",
    "data.max_valid_tokens=300",
)


@pytest.fixture(scope="module")
def text(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_small_shards(crumbs_of(prepared), tmp_path_factory.mktemp("shards") / "text")


@pytest.fixture(scope="module")
def local(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of the run from the folder itself."""
    folder = tmp_path_factory.mktemp("runs") / "local"
    return call("xlm-train", *WORDS, f"data.dir={text}", f"run.dir={folder}").expect().result


@pytest.fixture(scope="module")
def server(text: Path) -> Iterator[str]:
    with s3_server() as address:
        upload(text, address, "bucket")
        yield address


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxy_of(server) as proxy:
        for name, value in {**ACCOUNT, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        yield proxy


def words_in(folder: Path, *more: str) -> tuple[str, ...]:
    """A run in `folder`, with a cache beside it."""
    data = ("data.dir=s3://bucket/text", f"data.cache_dir={folder.parent / 'cache'}")
    return (*WORDS, *data, "data.retry_minutes=1", f"run.dir={folder}", *more)


def assert_the_same(outcome: Outcome, local: dict[str, Any]) -> None:
    result = outcome.expect().result
    assert result["status"] == "finished"
    for name in ("weights_sha256", "valid", "test", "tokens_seen"):
        assert result[name] == local[name], name


def small_files(text: Path) -> int:
    """Bytes of what is always in the cache during these runs."""
    manifest = Manifest.load(text)
    scored = [
        name for split in ("valid", "test") for name in manifest.read_files(split, parallel=False)
    ]
    return sum(
        (text / name).stat().st_size for name in (*scored, "manifest.json", "codes", "vocab")
    )


class LargestSize(threading.Thread):
    """Looks at the size of a cache again and again."""

    def __init__(self, cache: Path) -> None:
        super().__init__(daemon=True)
        self.cache = cache
        self.bytes = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.005):
            self.bytes = max(self.bytes, size_of(self.cache))


def test_training_and_scoring_from_a_store(
    local: dict[str, Any], proxy: Proxy, tmp_path: Path
) -> None:
    proxy.faults = [Fault("busy", "de-00", times=1), Fault("flip", r"train/en-.*bin", times=1)]
    outcome = call("xlm-train", *words_in(tmp_path / "run"))
    assert_the_same(outcome, local)
    assert outcome.stderr.count("trying again in") == 2
    fetched = proxy.fetched(r"\.bin$")
    assert len(fetched) == len(set(fetched)) + 2 > 16

    given = json.loads((tmp_path / "run" / "provenance.json").read_text())["data"]
    assert given["dir"] == "s3://bucket/text"
    written = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    secret = ACCOUNT["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [file for file in written if secret in file.read_bytes()]

    cache = f"data.cache_dir={tmp_path / 'cache'}"
    scored = call("xlm-evaluate", f"checkpoint={tmp_path / 'run'}", cache).expect().result
    assert scored["data_dir"] == "s3://bucket/text"
    assert scored["de"]["nll_nats"] == pytest.approx(local["valid"]["de"]["nll_nats"])


def test_a_wrong_bucket_is_told_in_two_lines(proxy: Proxy, tmp_path: Path) -> None:
    words = words_in(tmp_path / "run", "data.dir=s3://buckett/text")
    outcome = call("xlm-train", *words).expect(2)
    assert "data.dir=s3://buckett/text: no manifest.json from there" in outcome.stderr
    assert len(outcome.stderr.splitlines()) <= 2
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_and_workers_share_what_was_fetched(
    local: dict[str, Any], proxy: Proxy, tmp_path: Path
) -> None:
    words = words_in(tmp_path / "run", "trainer=ddp_cpu", "data.workers=1")
    result = run("xlm-train", *words).expect().result
    assert result["world_size"] == 2
    assert result["valid"]["de"]["nll_nats"] == pytest.approx(
        local["valid"]["de"]["nll_nats"], rel=1e-4
    )
    fetched = proxy.fetched(r"\.bin$")
    assert len(fetched) == len(set(fetched)) > 16
    for one, two in (
        ("trainer.devices=1", "data.workers=2"),
        ("trainer.devices=1", "data.workers=0"),
    ):
        again = run("xlm-train", *words_in(tmp_path / two, one, two))
        assert_the_same(again, local)
    assert len(proxy.fetched(r"\.bin$")) == len(fetched)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_shards_make_room_for_others(
    workers: int, text: Path, tmp_path: Path, proxy: Proxy
) -> None:
    """60 steps go through the text more than once, with room for two windows of each language.

    Windows are of four slots here, so that a worker may be behind by one: a third one for workers.
    """
    longer = ("trainer.max_steps=60", "data.workers=" + str(workers))
    reference = call("xlm-train", *WORDS, *longer, f"data.dir={text}", f"run.dir={tmp_path / 'a'}")
    least = small_files(text) + 2 * 2 * 4 * 512
    bound = least + (2 * 4 * 512 if workers else 0)
    watch = LargestSize(tmp_path / "cache")
    watch.start()
    outcome = run("xlm-train", *words_in(tmp_path / "b", *longer, f"data.cache_gb={bound / 1e9}"))
    watch.over.set()
    assert_the_same(outcome, reference.result)
    assert bound - 4 * 512 < watch.bytes <= bound
    fetched = proxy.fetched(r"train/.*\.bin")
    assert len(fetched) > len(set(fetched))  # some came twice
    less = f"data.cache_gb={(least - 1) / 1e9}"
    refused = call("xlm-train", *words_in(tmp_path / "c", *longer, less)).expect(2)
    assert "are in use at once" in refused.stderr


@pytest.mark.slow
def test_a_run_killed_while_it_waits_for_a_shard_goes_on(
    local: dict[str, Any], proxy: Proxy, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    proxy.faults = [Fault("", r"train/", times=20), Fault("hang", r"train/")]

    def waits() -> bool:
        checkpoint = folder / "checkpoints" / "last.ckpt"
        partial = list((tmp_path / "cache").rglob(".partial-*"))
        return checkpoint.is_file() and bool(partial)

    killed = run_and_signal(
        "xlm-train", *words_in(folder), when=waits, number=9, settle_seconds=0.5
    )
    assert killed.code == -9
    assert list((tmp_path / "cache").rglob(".partial-*"))
    proxy.faults = []
    again = run("xlm-train", *words_in(folder))
    assert_the_same(again, local)
    assert not list((tmp_path / "cache").rglob(".partial-*"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_that_fails_for_a_while_delays(
    workers: int, local: dict[str, Any], proxy: Proxy, tmp_path: Path
) -> None:
    proxy.faults = [
        Fault("", r"train/", times=10),
        *(Fault(kind, r"train/", times=1) for kind in ("busy", "cut", "deny", "flip", "busy")),
    ]
    outcome = run("xlm-train", *words_in(tmp_path / "run", f"data.workers={workers}"))
    assert_the_same(outcome, local)
    assert outcome.stderr.count("; trying again in") == 5
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_that_fails_for_too_long_ends_the_run(
    workers: int, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.faults = [Fault("", r"train/", times=18), Fault("busy", r"train/")]
    limits = (f"data.workers={workers}", "data.retry_minutes=0.03")
    outcome = run("xlm-train", *words_in(tmp_path / "run", *limits)).expect(2)
    (complaint,) = [line for line in outcome.stderr.splitlines() if line.startswith("xlm-train: ")]
    assert "for data.retry_minutes=0.03; " in complaint
    assert "Traceback" not in outcome.stderr
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_parallel_text_from_a_store(text: Path, proxy: Proxy, tmp_path: Path) -> None:
    objective = ("objective=mlm_tlm", "trainer.max_steps=8")
    words = (*WORDS, *objective, f"data.dir={text}", f"run.dir={tmp_path / 'local'}")
    local = call("xlm-train", *words).expect().result
    outcome = call("xlm-train", *words_in(tmp_path / "run", *objective))
    assert_the_same(outcome, local)
    for split in ("valid", "test"):
        words = (f"checkpoint={tmp_path / 'run'}", "objective=tlm", f"split={split}")
        words = (*words, f"data.cache_dir={tmp_path / 'other'}")
        scored = call("xlm-evaluate", *words).expect().result
        assert scored["data_dir"] == "s3://bucket/text"
