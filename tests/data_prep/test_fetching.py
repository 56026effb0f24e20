"""Downloads from a real server that breaks off, changes its mind and fails."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import Remote, serve

from data_prep.fetching import Checksum, Patience, fetch, fetch_text
from xlm_lightning.errors import UserError

CONTENT = random.Random(0).randbytes(3_000_000)
OTHER = random.Random(1).randbytes(3_000_000)
HURRIED = Patience(attempts=4, first_wait_seconds=0.001, timeout_seconds=5.0)


@pytest.fixture
def remote() -> Iterator[Remote]:
    with serve(Remote(files={"/file": CONTENT})) as served:
        yield served


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def get(remote: Remote, folder: Path, content: bytes = CONTENT) -> Path:
    fetch(
        f"{remote.url}/file",
        folder / "file",
        checksum=Checksum("sha1", sha1(content)),
        patience=HURRIED,
    )
    assert (folder / "file").read_bytes() == content
    assert [path.name for path in folder.iterdir()] == ["file"]
    return folder / "file"


def statuses(remote: Remote) -> list[int]:
    return [status for _, _, status in remote.requests]


def test_a_file_is_fetched_once(remote, tmp_path):
    get(remote, tmp_path)
    get(remote, tmp_path)
    assert statuses(remote) == [200]


@pytest.mark.parametrize("validator", ["etag", "last_modified"])
def test_a_broken_transfer_goes_on_where_it_was(remote, tmp_path, validator):
    if validator == "etag":
        remote.last_modified = None
    else:
        remote.etags = False
    remote.break_off_after = [1_000_000, 500_000]
    get(remote, tmp_path)
    assert remote.requests == [
        ("/file", None, 200),
        ("/file", "bytes=1000000-", 206),
        ("/file", "bytes=1500000-", 206),
    ]


def test_a_server_without_ranges_starts_again(remote, tmp_path):
    remote.ranges = False
    remote.break_off_after = [1_000_000]
    get(remote, tmp_path)
    assert statuses(remote) == [200, 200]


def test_without_a_validator_nothing_is_continued(remote, tmp_path):
    remote.etags, remote.last_modified = False, None
    remote.break_off_after = [1_000_000]
    get(remote, tmp_path)
    assert remote.requests == [("/file", None, 200), ("/file", None, 200)]


@pytest.mark.parametrize("ignore_if_range", [False, True])
def test_a_file_that_changed_between_attempts_comes_anew(remote, tmp_path, ignore_if_range):
    remote.ignore_if_range = ignore_if_range
    remote.break_off_after = [1_000_000] * 4
    with pytest.raises(UserError, match="broke off"):
        fetch(
            f"{remote.url}/file", tmp_path / "file", checksum=None, patience=Patience(1, 0.0, 5.0)
        )
    assert (tmp_path / "file.part").stat().st_size == 1_000_000
    remote.files["/file"] = OTHER
    remote.break_off_after = []
    get(remote, tmp_path, OTHER)
    assert statuses(remote)[-1] == 200


def test_a_wrong_checksum_is_told_after_a_second_try(remote, tmp_path):
    with pytest.raises(UserError, match=f"has the sha1 {sha1(CONTENT)}, published is 0000"):
        fetch(
            f"{remote.url}/file",
            tmp_path / "file",
            checksum=Checksum("sha1", "0" * 40),
            patience=HURRIED,
        )
    assert statuses(remote) == [200, 200]
    assert list(tmp_path.iterdir()) == []


def test_damage_in_the_kept_part_is_mended_by_the_second_try(remote, tmp_path):
    remote.break_off_after = [1_000_000]
    with pytest.raises(UserError):
        fetch(
            f"{remote.url}/file", tmp_path / "file", checksum=None, patience=Patience(1, 0.0, 5.0)
        )
    part = tmp_path / "file.part"
    part.write_bytes(bytes(1_000_000))
    get(remote, tmp_path)
    assert statuses(remote) == [200, 206, 200]


def test_a_whole_part_needs_no_request(remote, tmp_path):
    """Killed between the last byte and the renaming."""
    (tmp_path / "file.part").write_bytes(CONTENT)
    version = {"etag": remote.etag("/file"), "last_modified": "", "total": len(CONTENT)}
    (tmp_path / "file.part.json").write_text(json.dumps(version))
    get(remote, tmp_path)
    assert remote.requests == []


def test_a_missing_file_is_the_users_mistake(remote, tmp_path):
    with pytest.raises(UserError, match=r"/nowhere: HTTP 404 .*; check the language"):
        fetch(f"{remote.url}/nowhere", tmp_path / "x", checksum=None, patience=HURRIED)
    assert statuses(remote) == [404]
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(remote, tmp_path):
    remote.statuses = [503, 429, 500]
    get(remote, tmp_path)
    assert statuses(remote) == [503, 429, 500, 200]


def test_a_server_that_keeps_failing_is_given_up(remote, tmp_path):
    remote.statuses = [503] * 10
    with pytest.raises(UserError, match=r"HTTP 503 \(4 attempts\); run the same command again"):
        fetch(f"{remote.url}/file", tmp_path / "file", checksum=None, patience=HURRIED)
    assert len(remote.requests) == 4


def test_progress_restarts_the_count_of_attempts(remote, tmp_path):
    remote.break_off_after = [100_000] * 20
    get(remote, tmp_path)
    assert len(remote.requests) == 21


def test_nobody_there_and_no_web_address(tmp_path):
    with pytest.raises(UserError, match="no connection"):
        fetch("http://127.0.0.1:1/file", tmp_path / "file", checksum=None, patience=HURRIED)
    with pytest.raises(UserError, match="is no http or https address"):
        fetch("file:///etc/passwd", tmp_path / "file", checksum=None, patience=HURRIED)


def test_texts_are_read_and_asked_for_again(remote):
    remote.files["/sums"] = b"abc  file\n"
    remote.statuses = [503]
    assert fetch_text(f"{remote.url}/sums", HURRIED) == "abc  file\n"


def test_a_killed_download_goes_on_at_its_byte(remote, tmp_path):
    remote.break_off_after = [1_500_000]
    program = (
        "import sys\nfrom pathlib import Path\nfrom data_prep.fetching import Patience, fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]), checksum=None, patience=Patience(8, 60.0, 60.0))\n"
    )
    arguments = [sys.executable, "-c", program, f"{remote.url}/file", str(tmp_path / "file")]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        part = tmp_path / "file.part"
        deadline = time.monotonic() + 30
        while not (part.is_file() and part.stat().st_size == 1_500_000):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    get(remote, tmp_path)
    assert remote.requests[-1] == ("/file", "bytes=1500000-", 206)
