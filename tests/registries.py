"""Registries for tests: ours and Debian's, each a process with a directory and a port of its own."""

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.speed import PATIENCE

OCTETS = {"Content-Type": "application/octet-stream"}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


# %% Processes
@dataclass
class Registry:
    """A running registry; requests go over one connection that is kept."""

    address: str
    root: Path
    process: "subprocess.Popen[str]"
    log: Path
    context: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)
    _line: http.client.HTTPConnection | None = None

    @property
    def host(self) -> str:
        """What the names of its images begin with."""
        return self.address

    @property
    def place(self) -> tuple[str, int]:
        """For a socket."""
        name, _, port = self.address.rpartition(":")
        return name, int(port)

    def line(self) -> http.client.HTTPConnection:
        """A new connection."""
        if self.context is not None:
            return http.client.HTTPSConnection(self.address, timeout=20, context=self.context)
        return http.client.HTTPConnection(self.address, timeout=20)

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> "Answer":
        """One request; an iterable body is sent in chunks."""
        fresh = self._line is None
        line = self._line = self._line or self.line()
        try:
            line.request(method, path, body, {**self.headers, **(headers or {})})
            response = line.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except (http.client.RemoteDisconnected, BrokenPipeError):
            self.hang_up()
            if fresh:
                raise
            return self.call(method, path, body, headers)  # it was idle for too long
        except BaseException:
            self.hang_up()
            raise
        if response.will_close:
            self.hang_up()
        return answer

    def hang_up(self) -> None:
        """Close the connection; the next request opens another."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def kill(self) -> None:
        """As a power failure would."""
        self.hang_up()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """As an administrator would."""
        self.hang_up()
        self.process.terminate()
        self.process.wait(10)

    # %% What most tests need first
    def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        """By POST and PUT; its digest."""
        digest = digest_of(data, algorithm)
        where = self.call("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
        answer = self.call("PUT", with_digest(where, digest), data, OCTETS)
        assert answer.status == 201, answer
        return digest

    def push_image(self, name: str, tag: str, content: bytes = b"", **more: Any) -> str:
        """A configuration and a layer; the manifest's digest."""
        config = self.push_blob(name, json.dumps({"salt": os.urandom(8).hex()}).encode())
        layer = self.push_blob(name, content or os.urandom(100))
        value = image(self, name, config, [layer], **more)
        return self.push_manifest(name, tag, value)

    def push_manifest(self, name: str, reference: str, value: Any, kind: str = MANIFEST) -> str:
        """Any JSON value; its digest."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        path = f"/v2/{name}/manifests/{reference or digest_of(data)}"
        answer = self.call("PUT", path, data, {"Content-Type": kind})
        assert answer.status == 201, answer
        return digest_of(data)


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    headers: Any
    data: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.data)

    @property
    def codes(self) -> list[str]:
        """Of a refusal."""
        return [one["code"] for one in self.json()["errors"]]


def with_digest(location: str, digest: str) -> str:
    """The path that ends an upload; a location may be absolute, and may have a query of its own."""
    path = "/" + location.partition("://")[2].partition("/")[2] if "://" in location else location
    return f"{path}{'&' if '?' in path else '?'}{urlencode({'digest': digest})}"


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """``sha256:…``."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def image(registry: Registry, name: str, config: str, layers: list[str], **more: Any) -> Any:
    """A manifest of blobs that are there."""

    def described(digest: str, kind: str) -> dict[str, Any]:
        size = int(registry.call("HEAD", f"/v2/{name}/blobs/{digest}").headers["Content-Length"])
        return {"mediaType": kind, "digest": digest, "size": size}

    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [described(one, "application/vnd.oci.image.layer.v1.tar") for one in layers],
        **more,
    }


# %% Ours
@contextlib.contextmanager
def ours(
    directory: Path, *options: str, listen: str = "127.0.0.1:0", **more: Any
) -> Iterator[Registry]:
    """``minidock registry serve`` on a free port."""
    registry = start(directory, *options, listen=listen, **more)
    try:
        yield registry
    finally:
        registry.hang_up()
        if registry.process.poll() is None:
            registry.process.terminate()
            registry.process.wait(10)
        assert registry.process.stdout is not None
        registry.process.stdout.close()


def start(directory: Path, *options: str, listen: str = "127.0.0.1:0", **more: Any) -> Registry:
    """Ours, to be ended by the caller."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "registry.log"
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "minidock", "registry", "serve", "-l", listen]
            + ["--root", str(directory / "root"), *options],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on "), log.read_text()
    return Registry(line.split()[-1], directory / "root", process, log, **more)


# %% Debian's
def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def docker_registry(
    directory: Path, more: dict[str, Any] | None = None
) -> Iterator[Registry | None]:
    """Debian's package ``docker-registry``, with ``more`` of configuration; None where it is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        yield None
        return
    directory.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    more = more or {}
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "root")},
            "delete": {"enabled": True},
        },
        **more,
        "http": {"addr": address, "secret": "test", **more.get("http", {})},
    }
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    log = directory / "registry.log"
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [program, "serve", str(directory / "config.yml")], stdout=file, stderr=file, text=True
        )
    try:
        registry = Registry(address, directory / "root", process, log)
        _wait_for(registry)
        yield registry
    finally:
        registry.hang_up()
        process.terminate()
        process.wait(10)


def _wait_for(registry: Registry) -> None:
    deadline = time.monotonic() + 30 * PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(registry.place):
            return
        assert registry.process.poll() is None, registry.log.read_text()
        time.sleep(0.02)
    raise TimeoutError(registry.log.read_text())
