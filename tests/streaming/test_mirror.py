"""Prepared folders of object stores: what a store may do, and what must be here afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from object_store import (
    ACCOUNT,
    Fault,
    Proxy,
    files_of,
    proxy_of,
    s3_server,
    simulated_manifest,
    size_of,
    upload,
)

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.streaming import mirror as mirrors
from xlm_lightning.streaming import store as stores
from xlm_lightning.streaming.mirror import Mirror
from xlm_lightning.streaming.shard_cache import NoRoomError

# 24 shards of 2 kB, whose names the tests below use
SIZES = {"train": {"en": [1024] * 12, "de": [1024] * 12}, "valid": {"en": [300], "de": [300]}}
SHARD_BYTES = 2048
EN = [f"train/en-{index:05d}.bin" for index in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_folder) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("original") / "text", SIZES)
    hashes = {}
    for name in ("codes", "vocab"):
        (folder / name).write_text(f"{name}\n")
        hashes[f"{name}_sha256"] = hashlib.sha256(f"{name}\n".encode()).hexdigest()
    described = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**described, **hashes}))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """An S3 server that holds the folder as s3://bucket/text."""
    with s3_server() as address:
        upload(folder, address, "bucket")
        yield address


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the server, and the account, as the environment gives them."""
    with proxy_of(server) as proxy:
        for name, value in {**ACCOUNT, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(mirrors, "FIRST_WAIT_SECONDS", 0.05)
        yield proxy


def mirror_in(cache: Path, *, cache_gb: float = 1, retry_minutes: float = 1) -> Mirror:
    return Mirror("s3://bucket/text", cache, cache_gb, retry_minutes)


def content(mirror: Mirror, name: str) -> bytes:
    with mirror.open(name) as file:
        return file.read()


def left_in(cache: Path) -> set[str]:
    """Names of all files, but for those that every mirror has."""
    names = {file.name for file in cache.rglob("*") if file.is_file()}
    return names - {".lock", "manifest.json", "codes", "vocab"}


def test_files_come_when_they_are_asked_for_and_stay(
    folder: Path, proxy: Proxy, tmp_path: Path
) -> None:
    mirror = mirror_in(tmp_path)
    assert mirror.manifest == Manifest.load(folder)
    assert left_in(tmp_path) == set()
    assert content(mirror, EN[3]) == (folder / EN[3]).read_bytes()
    assert content(mirror_in(tmp_path), EN[3]) == (folder / EN[3]).read_bytes()
    assert left_in(tmp_path) == {"en-00003.bin"}
    assert proxy.fetched("") == ["manifest.json", "codes", "vocab", EN[3], "manifest.json"]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("busy", "reduce your request rate"),
        pytest.param("cut", "trying again", marks=pytest.mark.slow),
        ("flip", "2048 bytes came, and not those that manifest.json describes"),
        pytest.param("hang", "TimeoutError: nothing came for 1 s", marks=pytest.mark.slow),
    ],
)
def test_a_fault_that_passes_costs_time_only(
    fault: str,
    complaint: str,
    folder: Path,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirror = mirror_in(tmp_path)
    monkeypatch.setattr(stores, "STALL_SECONDS", 1.0)
    proxy.faults = [Fault(fault, EN[0], times=2)]
    assert content(mirror, EN[0]) == (folder / EN[0]).read_bytes()
    assert left_in(tmp_path) == {"en-00000.bin"}
    told = capsys.readouterr().err
    assert re.search(complaint, told), told
    assert re.search(
        rf"^s3://bucket/text/{EN[0]}: .*; trying again in [\d.]+ s$", told, re.MULTILINE
    )


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["busy", "cut", "deny"])
def test_a_fault_that_stays_ends_at_last(fault: str, proxy: Proxy, tmp_path: Path) -> None:
    mirror = mirror_in(tmp_path, retry_minutes=0.02)
    proxy.faults = [Fault(fault, EN[0])]
    with pytest.raises(UserError, match=rf"{EN[0]}: .*, for data.retry_minutes=0.02; "):
        mirror.fetch(EN[0])
    assert left_in(tmp_path) == set()


def test_a_damaged_object_is_never_taken(proxy: Proxy, tmp_path: Path) -> None:
    mirror = mirror_in(tmp_path)
    proxy.faults = [Fault("flip", EN[0])]
    with pytest.raises(UserError, match=rf"{EN[0]}: 2048 bytes came, .* 3 times; upload it again"):
        mirror.fetch(EN[0])
    assert left_in(tmp_path) == set()
    mirror.fetch(EN[1])


@pytest.mark.slow
def test_a_missing_shard_ends_the_run(proxy: Proxy, server: str, tmp_path: Path) -> None:
    mirror = mirror_in(tmp_path)
    mirror.store.address = "s3://bucket/other"
    with pytest.raises(UserError, match=f"s3://bucket/other: no {EN[0]} from there"):
        mirror.fetch(EN[0])


def test_no_account_no_bucket_no_access_are_told_at_once(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"data.dir=s3://nowhere/text: no manifest.json from there"):
        Mirror("s3://nowhere/text", tmp_path, 1, 60)
    proxy.faults = [Fault("deny")]
    with pytest.raises(UserError, match="PermissionError"):
        mirror_in(tmp_path, retry_minutes=60)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(UserError, match="NoCredentialsError"):
        mirror_in(tmp_path, retry_minutes=60)
    assert left_in(tmp_path) == set()


def test_a_cache_that_cannot_be_written_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data.cache_dir=.*file/cache: .*; choose another folder"):
        mirror_in(tmp_path / "file" / "cache")


@pytest.mark.slow
def test_a_cached_file_of_wrong_length_is_fetched_again(
    folder: Path, proxy: Proxy, tmp_path: Path
) -> None:
    mirror = mirror_in(tmp_path)
    mirror.fetch(EN[0])
    (mirror.folder / EN[0]).write_bytes(b"short")
    assert content(mirror, EN[0]) == (folder / EN[0]).read_bytes()


def test_the_bound_holds_and_the_oldest_make_room(proxy: Proxy, tmp_path: Path) -> None:
    small = sum(f.stat().st_size for f in mirror_in(tmp_path).folder.iterdir())
    mirror = mirror_in(tmp_path, cache_gb=(small + 4 * SHARD_BYTES) / 1e9)
    for name in EN[:4]:
        mirror.fetch(name)
        os.utime(mirror.folder / name, (0, EN.index(name)))
    mirror.open(EN[0]).close()  # read last
    mirror.fetch(EN[4])
    assert left_in(tmp_path) == {f"en-{index:05d}.bin" for index in (0, 2, 3, 4)}


def test_what_is_mapped_stays(proxy: Proxy, tmp_path: Path) -> None:
    small = sum(f.stat().st_size for f in mirror_in(tmp_path).folder.iterdir())
    mirror = mirror_in(tmp_path, cache_gb=(small + 2 * SHARD_BYTES) / 1e9, retry_minutes=0.01)
    maps = []
    for name in EN[:2]:
        with mirror.open(name) as file:
            maps.append(np.asarray(np.memmap(file, "<u2", "r")))
    with pytest.raises(UserError, match=r"data.cache_gb=.* is full of shards in use"):
        mirror.fetch(EN[2])
    with pytest.raises(NoRoomError):
        mirror.fetch_ahead(EN[2], frozenset())
    assert left_in(tmp_path) == {"en-00000.bin", "en-00001.bin"}
    del maps[0]
    mirror.fetch(EN[2])
    assert left_in(tmp_path) == {"en-00001.bin", "en-00002.bin"}


@pytest.mark.slow
def test_fetching_ahead_spares_what_is_needed(proxy: Proxy, tmp_path: Path) -> None:
    small = sum(f.stat().st_size for f in mirror_in(tmp_path).folder.iterdir())
    mirror = mirror_in(tmp_path, cache_gb=(small + 2 * SHARD_BYTES) / 1e9)
    mirror.fetch(EN[0])
    mirror.fetch(EN[1])
    with pytest.raises(NoRoomError):
        mirror.fetch_ahead(EN[2], frozenset(EN[:3]))
    mirror.fetch_ahead(EN[2], frozenset(EN[1:3]))
    assert left_in(tmp_path) == {"en-00001.bin", "en-00002.bin"}


def test_a_cache_too_small_for_all_at_once_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    mirror = mirror_in(tmp_path, cache_gb=1e-5)
    with pytest.raises(UserError, match=r"data.cache_gb=1e-05: .* say data.cache_gb="):
        mirror.fetch_at_start(EN)
    assert left_in(tmp_path) == set()


PROGRAM = """
import random, sys
from pathlib import Path
from xlm_lightning.streaming.mirror import Mirror
cache, gigabytes, seed, rounds, original = sys.argv[1:]
mirror = Mirror("s3://bucket/text", Path(cache), float(gigabytes), 1)
print("ready", flush=True)
names = [shard.name for shard in mirror.manifest.shards()]
order = random.Random(int(seed))
for _ in range(int(rounds)):
    for name in order.sample(names, len(names)):
        with mirror.open(name) as file:
            assert file.read() == (Path(original) / name).read_bytes(), name
"""


def start(cache: Path, folder: Path, *, gigabytes: float, seed: int, rounds: int):
    words = [str(cache), str(gigabytes), str(seed), str(rounds), str(folder)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_processes_fetch_each_file_once(folder: Path, proxy: Proxy, tmp_path: Path) -> None:
    proxy.faults = [Fault("busy", EN[5], times=1), Fault("flip", EN[6], times=1)]
    readers = [start(tmp_path, folder, gigabytes=1, seed=seed, rounds=1) for seed in range(3)]
    for reader in readers:
        _, told = reader.communicate(timeout=60)
        assert reader.returncode == 0, told
    names = proxy.fetched(r"\.bin$")
    once_more = {EN[5], EN[6]}
    assert all(names.count(name) == 1 + (name in once_more) for name in set(names)), names
    assert len(set(names)) == 26


@pytest.mark.slow
def test_processes_share_a_cache_that_holds_half(
    folder: Path, proxy: Proxy, tmp_path: Path
) -> None:
    small = sum(f.stat().st_size for f in mirror_in(tmp_path).folder.iterdir())
    bound = small + 10 * SHARD_BYTES
    readers = [
        start(tmp_path, folder, gigabytes=bound / 1e9, seed=seed, rounds=3) for seed in range(2)
    ]
    largest = 0
    while any(reader.poll() is None for reader in readers):
        largest = max(largest, size_of(tmp_path))
    for reader in readers:
        _, told = reader.communicate(timeout=60)
        assert reader.returncode == 0, told
    assert bound - SHARD_BYTES < largest <= bound


@pytest.mark.slow
def test_a_killed_download_leaves_nothing_to_others(
    folder: Path, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.faults = [Fault("hang", r"train/.*\.bin")]
    reader = start(tmp_path, folder, gigabytes=1, seed=0, rounds=1)
    while not (left := {name for name in left_in(tmp_path) if name.endswith(".bin")}):
        assert reader.poll() is None
        time.sleep(0.01)
    reader.send_signal(signal.SIGKILL)
    reader.communicate()
    proxy.faults = []
    (name,) = left
    mirror = mirror_in(tmp_path)
    whole = f"train/{name.removeprefix('.partial-')}"
    other = next(other for other in EN if other != whole)
    mirror.fetch(other)
    assert left_in(tmp_path) == {name, Path(other).name}
    assert content(mirror, whole) == (folder / whole).read_bytes()
    assert left_in(tmp_path) == {Path(whole).name, Path(other).name}


@pytest.mark.slow
def test_the_partial_file_of_a_killed_process_makes_room(proxy: Proxy, tmp_path: Path) -> None:
    small = sum(f.stat().st_size for f in mirror_in(tmp_path).folder.iterdir())
    mirror = mirror_in(tmp_path, cache_gb=(small + 1.5 * SHARD_BYTES) / 1e9)
    (mirror.folder / "train").mkdir()
    (mirror.folder / "train" / ".partial-de-00000.bin").write_bytes(b"x" * SHARD_BYTES)
    mirror.fetch(EN[0])
    assert left_in(tmp_path) == {"en-00000.bin"}


@pytest.mark.slow
def test_threads_of_a_process_fetch_a_file_once(proxy: Proxy, tmp_path: Path) -> None:
    proxy.faults = [Fault("slow", EN[0], times=1)]
    mirror = mirror_in(tmp_path)
    threads = [threading.Thread(target=mirror.fetch, args=(EN[0],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.fetched("bin$") == [EN[0]]


@pytest.mark.parametrize("name", ["../en.bin", "/tmp/en.bin", "train/../../en.bin", "train/en"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    described = simulated_manifest(1)
    described["splits"]["train"]["en"][0]["name"] = name
    (tmp_path / "manifest.json").write_text(json.dumps(described))
    with files_of(tmp_path) as address, pytest.raises(UserError, match="is no name of a shard"):
        Mirror(address, tmp_path / "cache", 1, 1)
    assert not (tmp_path / "en.bin").exists()


@pytest.mark.slow
def test_a_terabyte_is_opened_with_three_requests(
    server: str, proxy: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "text").mkdir()
    for name in ("codes", "vocab"):
        (tmp_path / "text" / name).write_text("x")
    (tmp_path / "text" / "manifest.json").write_text(json.dumps(simulated_manifest(30_000)))
    upload(tmp_path / "text", server, "terabyte")
    mirror = Mirror("s3://terabyte/text", tmp_path / "cache", 1, 1)
    assert len(list(mirror.manifest.shards())) == 30_000
    assert set(proxy.fetched("")) == {"manifest.json", "codes", "vocab"}


def test_a_plain_file_server_will_do(folder: Path, tmp_path: Path) -> None:
    """`python -m http.server` knows no ranges."""
    with files_of(folder) as address:
        mirror = Mirror(f"{address}/", tmp_path, 1, 1)
        assert content(mirror, EN[3]) == (folder / EN[3]).read_bytes()
        with pytest.raises(UserError, match="FileNotFoundError"):
            Mirror(f"{address}/other", tmp_path, 1, 60)
