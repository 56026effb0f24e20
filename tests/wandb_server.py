"""As much of a wandb server as `wandb sync` asks for, on the loopback: it keeps the history."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class WandbServer(ThreadingHTTPServer):
    """`history`: run id -> rows, each where its sender has put it."""

    def __init__(self) -> None:
        self.history: dict[str, list[dict[str, Any]]] = {}
        super().__init__(("127.0.0.1", 0), _Answers)

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which wandb sends to it; the key is nobody's."""
        address = f"http://127.0.0.1:{self.server_address[1]}"
        return {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40, "WANDB_ENTITY": "me"}

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What GraphQL is asked by the sender of a run."""
        (operation,) = re.findall(r"(?:query|mutation)\s+(\w+)", query)
        if operation == "UpsertBucket":
            name = variables["name"]
            project = {"id": "P", "name": variables["project"], "entity": {"id": "E", "name": "me"}}
            run = {"id": "R", "name": name, "displayName": name, "project": project, "config": "{}"}
            run["historyLineCount"] = len(self.history.setdefault(name, []))
            return {"data": {"upsertBucket": {"bucket": run, "inserted": False}}}
        if operation == "CreateArtifact":  # says that it has this table already
            known = {"id": "A", "state": "COMMITTED"}
            known["artifactSequence"] = {"id": "S", "latestArtifact": None}
            return {"data": {"createArtifact": {"artifact": known}}}
        return {"data": None, "errors": [{"message": f"{operation} is not offered here"}]}

    def stream(self, run: str, files: dict[str, Any]) -> None:
        """Put the lines of the history where they belong."""
        if "wandb-history.jsonl" in files:
            part = files["wandb-history.jsonl"]
            self.history[run][part["offset"] :] = map(json.loads, part["content"])


class _Answers(BaseHTTPRequestHandler):
    server: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            answer = self.server.answer(asked["query"], asked.get("variables") or {})
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body).get("files") or {})
        told = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
