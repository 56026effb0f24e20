"""A real S3 server program on the loopback, and a proxy before it that fails to order."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from xlm_lightning.manifest import BLOCK_LENGTH, Manifest, Shard

ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "planted-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_MAX_ATTEMPTS": "1",  # seconds less until the first complaint
}


@contextmanager
def s3_server() -> Iterator[str]:
    """Run the server program while the block lasts; its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program = str(Path(sys.executable).with_name("moto_server"))
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def upload(folder: Path, server: str, bucket: str) -> str:
    """Copy all files of `folder` into a new bucket; the address of the copy."""
    client = boto3.client(
        "s3",
        endpoint_url=server,
        region_name="us-east-1",
        aws_access_key_id=ACCOUNT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ACCOUNT["AWS_SECRET_ACCESS_KEY"],
        # without a checksum of the store's own, which would find a wrong byte before ours
        config=Config(request_checksum_calculation="when_required"),
    )
    client.create_bucket(Bucket=bucket)
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"text/{file.relative_to(folder)}"
            client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes())
    return f"s3://{bucket}/text"


def in_small_shards(prepared: Path, folder: Path) -> Path:
    """Copy a prepared folder with its train text cut into shards of a block each."""
    shutil.copytree(prepared, folder)
    manifest = Manifest.load(folder)
    for language, shards in manifest.splits["train"].items():
        tokens = b"".join((folder / shard.name).read_bytes() for shard in shards)
        for shard in shards:
            (folder / shard.name).unlink()
        size = 2 * BLOCK_LENGTH
        parts = [tokens[start : start + size] for start in range(0, len(tokens), size)]
        manifest.splits["train"][language] = [
            _write(folder, shards[0], f"train/{language}-{index:05d}.bin", part)
            for index, part in enumerate(parts)
        ]
    manifest.save(folder)
    return folder


def _write(folder: Path, like: Shard, name: str, content: bytes) -> Shard:
    (folder / name).write_bytes(content)
    return dataclasses.replace(
        like,
        name=name,
        bytes=len(content),
        tokens=len(content) // 2,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def size_of(cache: Path) -> int:
    """Bytes of all files in a cache, at a moment when none is added, renamed or resized."""
    if not cache.is_dir():
        return 0
    with (cache / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sizes = [0]
        for file in cache.rglob("*"):
            with suppress(FileNotFoundError):  # partial files of failed attempts do go
                sizes.append(file.stat().st_size * file.is_file())
        return sum(sizes)


@dataclass
class Fault:
    """What happens to some requests instead of an answer."""

    kind: str  # busy: 503; deny: 403; hang; slow: half a second late; cut, flip: the body
    path: str = ""  # a regular expression that is searched for
    times: float = float("inf")


@dataclass
class Proxy:
    """Passes requests on to a server, but for faults, and keeps account of them."""

    server: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)  # paths of all requests for a content
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def fault_of(self, command: str, path: str) -> str:
        """The next fault ordered for a request for a content, if any."""
        if command != "GET":
            return ""
        with self.lock:
            self.gets.append(path)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, path):
                    fault.times -= 1
                    return fault.kind
        return ""

    def fetched(self, pattern: str) -> list[str]:
        """Names of the files asked for, in order, whose path matches."""
        with self.lock:
            return [path.partition("/text/")[2] for path in self.gets if re.search(pattern, path)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        fault = self.proxy.fault_of(self.command, path)
        if fault == "hang":
            self.proxy.closing.wait(60)
            self.close_connection = True
        elif fault in ("busy", "deny"):
            status, code = (503, "SlowDown") if fault == "busy" else (403, "AccessDenied")
            told = "Please reduce your request rate." if fault == "busy" else "Access Denied"
            body = f"<Error><Code>{code}</Code><Message>{told}</Message></Error>".encode()
            self._answer(status, {"Content-Type": "application/xml"}, body, len(body))
        else:
            self._pass_on(fault)

    do_HEAD = do_GET

    def _pass_on(self, fault: str) -> None:
        upstream = http.client.HTTPConnection(urlsplit(self.proxy.server).netloc, timeout=60)
        upstream.request(self.command, self.path, headers=dict(self.headers))
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        length = int(answer.headers.get("Content-Length", len(body)))
        if fault == "slow":
            self.proxy.closing.wait(0.5)
        elif fault == "flip" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        elif fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        dropped = ("connection", "transfer-encoding", "content-length")
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in dropped}
        self._answer(answer.status, headers, body, length)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def proxy_of(server: str) -> Iterator[Proxy]:
    """Run a proxy in threads while the block lasts."""
    proxy = Proxy(server)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        running.shutdown()
        running.server_close()
        thread.join()


@contextmanager
def files_of(folder: Path) -> Iterator[str]:
    """Serve a folder with `python -m http.server` while the block lasts; its address."""
    words = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*words, "--directory", str(folder.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://[\d.]+:\d+", server.stdout.readline())
            assert address is not None
            yield f"{address[0]}/{folder.name}"
        finally:
            server.terminate()


def simulated_manifest(shards: int) -> dict[str, Any]:
    """A manifest of so many train shards of 32 MB that nobody has."""
    one = {"bytes": 2**25, "tokens": 2**24, "lines": 1, "documents": 1, "unknown": 0}
    one |= {"dropped_tail": 0, "raw_bytes": 2**26, "sha256": "0" * 64, "docs_sha256": "0" * 64}
    train = [{"name": f"train/en-{index:05d}.bin", **one} for index in range(shards)]
    hashed = hashlib.sha256(b"x").hexdigest()  # of codes and vocab
    return json.loads(
        json.dumps(
            {
                "vocab_size": 64,
                "vocab_sha256": hashed,
                "codes_sha256": hashed,
                "text": {"mode": "moses", "lowercase_and_remove_accent": False},
                "splits": {"train": {"en": train}},
                "format_version": 1,
            }
        )
    )
