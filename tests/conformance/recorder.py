"""A daemon that only listens: what does a command line *ask* for?

**Interface:** :class:`Recorder`.

It answers as an Engine API would as far as the creation of a container, and writes down every
request. The stock docker command line and ours are given the same arguments; what they ask for must
be the same.
"""

import json
import os
import socketserver
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

API_VERSION = "1.47"
CREATED = "c" * 64


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: ``path`` is without the version and with the query."""

    method: str
    path: str
    body: Any


@dataclass(slots=True)
class Outcome:
    """How a command ended, and what it asked for on the way."""

    status: int
    stdout: str
    stderr: str
    asked: list[Asked] = field(default_factory=list)


# %% The server
class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        path = self.path
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        bare = path.partition("?")[0]
        self.server.recorder.asked.append(  # type: ignore[attr-defined]
            Asked(self.command, path, json.loads(data) if data.strip() else None)
        )
        status, answer = self._what(bare)
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Api-Version", API_VERSION)
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _what(self, path: str) -> tuple[int, Any]:
        if path == "/_ping":
            return 200, b"OK"
        if path == "/containers/create":
            return 201, {"Id": CREATED, "Warnings": []}
        if path.endswith(("/start", "/stop", "/kill", "/restart", "/rename", "/pause", "/unpause")):
            return 204, b""
        if path == "/info":
            return 200, {"OSType": "linux", "Swarm": {"LocalNodeState": "inactive"}}
        return 500, {"message": f"only a recorder: {path}"}

    do_GET = do_POST = do_HEAD = do_DELETE = do_PUT = _answer  # noqa: N815 (http.server's names)

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def address_string(self) -> str:
        """A unix socket's peer has none."""
        return "-"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Recorder:
    """Listens on a socket in ``directory`` and keeps what it is asked."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.socket = directory / "recorder.sock"
        self.asked: list[Asked] = []
        self._server = _Server(str(self.socket), _Handler)
        self._server.recorder = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.socket.unlink()

    def record(self, program: list[str], arguments: list[str], **more: str) -> Outcome:
        """Run ``program`` (docker or minidock) with ``arguments`` against this socket."""
        self.asked = []
        host = f"unix://{self.socket}"
        environment = {**os.environ, "DOCKER_HOST": host, "MINIDOCK_HOST": host, **more}
        done = subprocess.run(
            [*program, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, self.asked)
