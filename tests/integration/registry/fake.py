"""A registry in fifty lines that can be told to misbehave.

It keeps everything in dictionaries and knows no tags but those it was given. A *fault* looks at
each request before it is answered and may answer it itself, or say after how many bytes of the
body the line is to break.
"""

import contextlib
import hashlib
import json
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler"], int | None]  # bytes until the line breaks; -1: answered


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass
class Fake:
    """What it has, and what it has been asked."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # by tag and digest
    uploads: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    ranges: bool = True
    port: int = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def blob(self, data: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
        """Keep a blob; its descriptor."""
        key = digest(data, algorithm)
        self.blobs[key] = data
        return {"mediaType": media_type, "digest": key, "size": len(data)}

    def manifest(self, value: dict[str, Any], *names: str, algorithm: str = "sha256") -> str:
        """Keep a manifest under its digest and ``names``."""
        data = json.dumps(value).encode()
        key = digest(data, algorithm)
        for name in (key, *names):
            self.manifests[name] = value["mediaType"], data
        return key

    def asked(self, pattern: str) -> int:
        """How many requests match."""
        return sum(re.search(pattern, line) is not None for line in self.log)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def answer(
        self, status: int, data: bytes = b"", breaks: int | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        length = headers.pop("Content_Length", None)
        if length is None and status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if breaks is None else data[:breaks])
        if breaks is not None:
            self.hang_up()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def dispatch(self) -> None:
        fake = self.fake
        fake.log.append(f"{self.command} {self.path}")
        fake.headers.append({name.lower(): value for name, value in self.headers.items()})
        breaks = None
        for fault in list(fake.faults):
            verdict = fault(self)
            if verdict == -1:
                return None
            breaks = verdict if verdict is not None else breaks
        path, _, query = self.path.partition("?")
        if path == "/v2/":
            return self.answer(200, b"{}")
        if match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            return self._manifest(match[2], breaks)
        if match := re.fullmatch(r"/v2/(.+)/blobs/uploads/(\w*)", path):
            return self._upload(match[1], match[2], query, breaks)
        if match := re.fullmatch(r"/v2/(.+)/blobs/(.+)", path):
            return self._blob(match[2], breaks)
        if path.endswith("/tags/list"):
            tags = [name for name in fake.manifests if ":" not in name]
            return self.answer(200, json.dumps({"tags": tags}).encode())
        return self.error(404, "UNSUPPORTED")

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = dispatch

    def error(self, status: int, code: str, words: str = "", **headers: str) -> None:
        body = {"errors": [{"code": code, "message": words or code.lower().replace("_", " ")}]}
        self.answer(status, json.dumps(body).encode(), **headers)

    def _manifest(self, which: str, breaks: int | None) -> None:
        if self.command == "PUT":
            data = self.body()
            kind = self.headers["Content-Type"]
            self.fake.manifests[which] = self.fake.manifests[digest(data)] = kind, data
            return self.answer(201, Docker_Content_Digest=digest(data))
        if which not in self.fake.manifests:
            return self.error(404, "MANIFEST_UNKNOWN")
        kind, data = self.fake.manifests[which]
        algorithm = which.partition(":")[0] if ":" in which else "sha256"
        return self.answer(
            200, data, breaks, Content_Type=kind, Docker_Content_Digest=digest(data, algorithm)
        )

    def _blob(self, which: str, breaks: int | None) -> None:
        data = self.fake.blobs.get(which)
        if data is None:
            return self.error(404, "BLOB_UNKNOWN")
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and self.fake.ranges:
            return self.answer(206, data[int(start[1]) :], breaks)
        return self.answer(200, data, breaks)

    def _upload(self, name: str, key: str, query: str, breaks: int | None) -> None:
        uploads = self.fake.uploads
        if self.command == "POST":
            key = f"u{secrets.token_hex(8)}"
            uploads[key] = b""
            return self.answer(202, Location=f"/v2/{name}/blobs/uploads/{key}")
        if key not in uploads:
            return self.error(404, "BLOB_UPLOAD_UNKNOWN")
        if self.command == "PATCH":
            for data in self.pieces():
                uploads[key] += data if breaks is None else data[: breaks - len(uploads[key])]
                if breaks is not None and len(uploads[key]) >= breaks:
                    return self.hang_up()
        elif self.command == "PUT":
            uploads[key] += self.body()
            wanted = query.replace("%3A", ":").partition("digest=")[2]
            if digest(uploads[key]) != wanted:
                return self.error(400, "DIGEST_INVALID")
            self.fake.blobs[wanted] = uploads.pop(key)
            return self.answer(201)
        last = max(0, len(uploads[key]) - 1)
        status = 204 if self.command == "GET" else 202
        return self.answer(status, Location=f"/v2/{name}/blobs/uploads/{key}", Range=f"0-{last}")

    def pieces(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline() or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length") or 0)
            while left and (data := self.rfile.read(min(left, 65536))):
                left -= len(data)
                yield data

    def body(self) -> bytes:
        return b"".join(self.pieces())


@contextlib.contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """On a port of the kernel's choice."""
    handler = type("FakeHandler", (Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# %% Faults
def times(count: int, pattern: str, fault: Fault) -> Fault:
    """``fault`` for the first ``count`` requests that match."""
    left = [count]

    def maybe(handler: Handler) -> int | None:
        if left[0] and re.search(pattern, f"{handler.command} {handler.path}"):
            left[0] -= 1
            return fault(handler)
        return None

    return maybe


def refuse(status: int, code: str = "UNKNOWN", words: str = "", **headers: str) -> Fault:
    """An answer instead of the right one."""

    def fault(handler: Handler) -> int:
        for _ in handler.pieces():
            pass
        handler.error(status, code, words, **headers)
        return -1

    return fault


def cut(after: int) -> Fault:
    """The line breaks after so many bytes."""
    return lambda handler: after


def hang_up(handler: Handler) -> int:
    """No answer at all."""
    handler.hang_up()
    return -1
