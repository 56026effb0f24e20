"""A real HTTP server on the loopback, with ranges, validators and faults to order."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Remote:
    """What the server holds and does; changed while it runs."""

    files: dict[str, bytes] = field(default_factory=dict)
    break_off_after: list[int] = field(default_factory=list)  # bytes of the body, one per answer
    statuses: list[int] = field(default_factory=list)  # answered first, one per request
    etags: bool = True
    last_modified: str | None = "Mon, 01 Jan 2024 00:00:00 GMT"
    ranges: bool = True
    ignore_if_range: bool = False
    url: str = ""
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)
    """Path, Range header and status of every answer."""

    def etag(self, path: str) -> str:
        return f'"{hash(self.files[path]) & 0xFFFFFFFF:x}"'


class _Handler(BaseHTTPRequestHandler):
    remote: Remote

    def do_GET(self) -> None:
        status = self.remote.statuses.pop(0) if self.remote.statuses else 200
        if status == 200 and self.path not in self.remote.files:
            status = 404
        if status != 200:
            self.remote.requests.append((self.path, self.headers["Range"], status))
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send_file(self.remote.files[self.path])

    def _send_file(self, content: bytes) -> None:
        etag = self.remote.etag(self.path)
        start = self._range_start(etag)
        body = content[start:]
        status = 206 if start else 200
        self.remote.requests.append((self.path, self.headers["Range"], status))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        if self.remote.etags:
            self.send_header("ETag", etag)
        if self.remote.last_modified:
            self.send_header("Last-Modified", self.remote.last_modified)
        self.end_headers()
        if self.remote.break_off_after:
            self.wfile.write(body[: self.remote.break_off_after.pop(0)])
            self.wfile.flush()
            self.connection.close()
        else:
            self.wfile.write(body)

    def _range_start(self, etag: str) -> int:
        span = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if not span or not self.remote.ranges:
            return 0
        valid = self.headers["If-Range"] in (etag, self.remote.last_modified)
        return int(span[1]) if valid or self.remote.ignore_if_range else 0

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(remote: Remote) -> Iterator[Remote]:
    """Run the server in a thread while the block lasts."""

    handler = type("Handler", (_Handler,), {"remote": remote})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    remote.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield remote
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
