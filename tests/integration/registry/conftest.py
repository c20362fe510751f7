"""Real registries (Debian's docker-registry) and image stores to pull into."""

import base64
import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from minidock.engine.events import Events
from minidock.engine.transfers import Transfers
from minidock.images import Images
from minidock.registry.auth import Credentials
from minidock.registry.settings import Settings
from minidock.registry.transport import Cancel
from minidock.spec.reference import parse
from tests import registries
from tests.integration.images.test_images import open_images
from tests.integration.registry.fake import Fake, serving
from tests.registries import Registry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# %% Our end
@dataclass
class Kit:
    """An image store and the engine's transfers over it; ``said`` is what a client would be told."""

    top: Path
    settings: Settings = field(default_factory=Settings)
    driver: str = "overlay"
    said: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images: Images = open_images(self.top, self.driver)
        self.transfers = Transfers(self.images, self.settings, Events())

    def pull(self, name: str, platform: str = "", who: Credentials | None = None) -> str:
        self.said.clear()
        cancel = Cancel()
        self.transfers.pull(parse(name), platform, who or Credentials(), self.said.append, cancel)
        return self.images.get(name).id

    def push(self, name: str, who: Credentials | None = None) -> str:
        self.said.clear()
        wanted, cancel = parse(name), Cancel()
        bare = type(wanted)(wanted.domain, wanted.path)
        self.transfers.push(bare, wanted.tag, who or Credentials(), self.said.append, cancel)
        return str(self.said[-1]["aux"]["Digest"])

    def statuses(self) -> list[str]:
        return [str(one.get("status")) for one in self.said]

    def partials(self) -> list[str]:
        return sorted(path.name for path in (self.top / "root" / "images" / "leases").iterdir())


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> Kit:
    return Kit(tmp_path / "two")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Fake()) as one:
        yield one


# %% docker-registry
@contextlib.contextmanager
def docker_registry(top: Path, more: dict[str, Any] | None = None) -> Iterator[Registry]:
    """Debian's; where it is not installed the test is skipped."""
    with registries.docker_registry(top, more) as one:
        if one is None:
            pytest.skip("needs docker-registry")
        yield one


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as one:
        yield one


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One with users: ann, whose password is "secret: word"."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import crypt
    top = tmp_path_factory.mktemp("private")
    (top / "htpasswd").write_text(f"ann:{crypt.crypt('secret: word', '$2b$05$' + 'a' * 22)}\n")
    auth = {"htpasswd": {"realm": "test", "path": str(top / "htpasswd")}}
    with docker_registry(top, {"auth": auth}) as one:
        yield one


# %% A certificate authority
def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def certificates(top: Path) -> Path:
    """``ca.crt``; ``server.crt`` for 127.0.0.1, ``client.cert`` for us, both by it."""
    top.mkdir(parents=True, exist_ok=True)
    subject = ("-subj", "/CN=minidock test CA", "-days", "2")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-keyout", top / "ca.key", "-out", top / "ca.crt", *subject)
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        extension = top / f"{name}.ext"
        extension.write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        request = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl(*request, "-keyout", top / f"{name}.key", "-out", top / f"{name}.csr",
                "-subj", f"/CN={name}")  # fmt: skip
        sign = ("x509", "-req", "-CA", top / "ca.crt", "-CAkey", top / "ca.key", "-CAcreateserial")
        out = top / ("client.cert" if name == "client" else "server.crt")
        openssl(*sign, "-days", "2", "-in", top / f"{name}.csr", "-extfile", extension, "-out", out)
    return top


# %% A token server
@dataclass
class TokenServer:
    """Gives out tokens that docker-registry believes; ``asked`` are the queries and forms it got."""

    realm: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    life: int = 300
    refresh: str = "refresh-me"
    gives: Callable[[str], bool] = lambda act: True


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(top: Path, scopes: list[str], life: int, gives: Callable[[str], bool]) -> str:
    """A JSON web token, signed by the authority's key by openssl(1)."""
    access = []
    for scope in (one for text in scopes for one in text.split()):
        kind, _, rest = scope.partition(":")
        name, _, acts = rest.rpartition(":")
        access.append(
            {"type": kind, "name": name, "actions": [act for act in acts.split(",") if gives(act)]}
        )
    now = int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "x5c": [_der(top)]}
    claims = {"iss": "test", "sub": "ann", "aud": "reg", "nbf": now - 60, "iat": now,
              "exp": now + life, "jti": str(now), "access": access}  # fmt: skip
    body = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    signature = openssl("dgst", "-sha256", "-sign", top / "rsa.key", stdin=body.encode())
    return f"{body}.{base64url(signature)}"


def _der(top: Path) -> str:
    return base64.b64encode(openssl("x509", "-in", top / "rsa.crt", "-outform", "DER")).decode()


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[tuple[Registry, TokenServer]]:
    """A docker-registry that believes tokens, and who gives them out to ann."""
    top = tmp_path / "tokens"
    top.mkdir()
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", top / "rsa.key",
            "-out", top / "rsa.crt", "-subj", "/CN=test", "-days", "2")  # fmt: skip
    state = TokenServer()
    basic = Credentials("ann", "pw").basic

    class Answers(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            state.asked.append(query)
            state.authorizations.append(self.headers.get("Authorization", ""))
            allowed = self.headers.get("Authorization") == basic
            self._give(query.get("scope", []), allowed, "offline_token" in query)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            state.asked.append(form)
            self._give(form.get("scope", []), form.get("refresh_token") == [state.refresh], False)

        def _give(self, scopes: list[str], allowed: bool, offline: bool) -> None:
            value: dict[str, Any] = {"details": "incorrect username or password"}
            if allowed:
                value = {
                    "token": token(top, scopes, state.life, state.gives),
                    "expires_in": state.life,
                }
                value |= {"refresh_token": state.refresh} if offline else {}
            data = json.dumps(value).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    state.realm = f"http://127.0.0.1:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    auth = {"realm": state.realm, "service": "reg", "issuer": "test"}
    auth["rootcertbundle"] = str(top / "rsa.crt")
    try:
        with docker_registry(top, {"auth": {"token": auth}}) as one:
            yield one, state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
