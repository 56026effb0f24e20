"""A model hub on the loopback: it answers what huggingface_hub asks to download and to upload."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/(revision|tree|preupload|commit)/\w+)?")
_FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/\w+/(.+)")


@dataclass
class Hub:
    """Its repositories (name -> file -> content), and who may write."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str = "secret"
    url: str = ""
    silent: bool = False  # hang up without an answer
    requests: list[str] = field(default_factory=list)  # method and path of all


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        if self._hang_up():
            return
        path = self.path.partition("?")[0]
        if (file := _FILE.fullmatch(path)) is not None:
            self._send_file(file[1], file[2])
        elif (asked := _API.fullmatch(path)) is None or asked[1] not in self.hub.models:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif asked[2] == "tree":
            self._send(self._tree(self.hub.models[asked[1]]))
        else:
            names = [{"rfilename": name} for name in self.hub.models[asked[1]]]
            self._send({"id": asked[1], "modelId": asked[1], "sha": COMMIT, "siblings": names})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self._hang_up():
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        asked = _API.fullmatch(path)
        if self.headers["Authorization"] != f"Bearer {self.hub.token}":
            self._refuse(401, "Unauthorized", "Invalid username or password.")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        elif asked is not None and asked[2] == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self._send({"files": [{"path": file, **modes} for file in files]})
        elif asked is not None and asked[2] == "commit":
            self._commit(asked[1], body)
        else:
            self._refuse(404, "RepoNotFound", "Repository not found")

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        made = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.models:
            self._send({**made, "error": "You already created this model repo"}, status=409)
            return
        self.hub.models[name] = {}
        self._send(made)

    def _commit(self, name: str, body: bytes) -> None:
        for line in body.splitlines():
            operation = json.loads(line)
            if operation["key"] == "file":
                value = operation["value"]
                self.hub.models[name][value["path"]] = base64.b64decode(value["content"])
        url = f"{self.hub.url}/{name}/commit/{COMMIT}"
        self._send({"commitUrl": url, "commitOid": COMMIT})

    def _tree(self, files: dict[str, bytes]) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": _digest(content)}
            for name, content in files.items()
        ]

    def _send_file(self, name: str, file: str) -> None:
        if file not in self.hub.models.get(name, {}):
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content = self.hub.models[name][file]
        headers = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}
        self._answer(200, content, headers)

    def _send(self, content: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        headers = {"Content-Type": "application/json", "X-Error-Code": code}
        self._answer(status, body, {**headers, "X-Error-Message": message})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _hang_up(self) -> bool:
        self.hub.requests.append(f"{self.command} {self.path.partition('?')[0]}")
        self.close_connection = self.hub.silent
        return self.hub.silent

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the server in a thread while the block lasts."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
