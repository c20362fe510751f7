"""``minidock registry serve``: the table of routes, and what happens to every request.

**Interface:** :class:`Registry`, :class:`Options`, :func:`serve`.

The traps. The name of a repository has slashes in it, so a route is found
from its end. Every answer, also a refusal, has to say which API this is, or
Docker takes us for a registry of version 1. And who listens to more than
this machine without asking for names and passwords lets everybody in.

**See:** OCI distribution specification, "Endpoints"; ssl(3) of Python.
"""

import re
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minidock.errors import Conflict, InvalidParameter, MiniDockError
from minidock.registry import server_blobs as blobs
from minidock.registry import server_manifests as manifests
from minidock.registry import server_search as searching
from minidock.registry.codes import RegistryError, as_json
from minidock.registry.gc import collect
from minidock.registry.server_access import Caller, Door
from minidock.registry.server_call import Call, Stores
from minidock.registry.server_users import Users, Watched, read_rules
from minidock.registry.storage import LEASE, Storage, check_name, locked
from minidock.registry.storage_manifests import Manifests
from minidock.registry.storage_uploads import Uploads
from minidock.server import Request, Response, Server, pattern, stop

HEADERS = {"Docker-Distribution-Api-Version": "registry/2.0", "X-Content-Type-Options": "nosniff"}
PATIENCE = 60.0  # seconds that a client may say nothing

# %% The table of routes
Handler = Callable[..., Response]

NAME = "/v2/{name*}"
TABLE: list[tuple[str, str, str, Handler]] = [  # method, path, what the caller must be allowed
    ("GET", "/v2/_catalog", "", manifests.catalog),
    ("GET", "/v1/_ping", "", searching.ping),
    ("GET", "/v1/search", "", searching.search),
    ("GET", f"{NAME}/manifests/{{reference}}", "pull", manifests.get),
    ("HEAD", f"{NAME}/manifests/{{reference}}", "pull", manifests.get),
    ("PUT", f"{NAME}/manifests/{{reference}}", "push", manifests.put),
    ("DELETE", f"{NAME}/manifests/{{reference}}", "delete", manifests.delete),
    ("GET", f"{NAME}/tags/list", "pull", manifests.tags),
    ("GET", f"{NAME}/referrers/{{digest}}", "pull", manifests.referrers),
    ("POST", f"{NAME}/blobs/uploads/", "push", blobs.start),
    ("POST", f"{NAME}/blobs/uploads", "push", blobs.start),
    ("GET", f"{NAME}/blobs/uploads/{{uuid}}", "push", blobs.status),
    ("PATCH", f"{NAME}/blobs/uploads/{{uuid}}", "push", blobs.append),
    ("PUT", f"{NAME}/blobs/uploads/{{uuid}}", "push", blobs.finish),
    ("DELETE", f"{NAME}/blobs/uploads/{{uuid}}", "push", blobs.cancel),
    ("GET", f"{NAME}/blobs/{{digest}}", "pull", blobs.get),
    ("HEAD", f"{NAME}/blobs/{{digest}}", "pull", blobs.head),
    ("DELETE", f"{NAME}/blobs/{{digest}}", "delete", blobs.delete),
]


# %% A registry
class Registry:
    """Answers requests. ``log`` gets a line for each."""

    def __init__(self, stores: Stores, door: Door, log: Callable[[str], object]) -> None:
        self._stores = stores
        self._door = door
        self._log = log
        self._table = [(method, pattern(path), act, run) for method, path, act, run in TABLE]

    def __call__(self, request: Request) -> Response:
        """Answer one request; a refusal becomes its status and its codes."""
        begun, caller = time.monotonic(), Caller()
        try:
            caller = self._door.who(request)
            response = self._answer(request, caller)
        except RegistryError as refused:
            response = Response(refused.status, as_json(refused), headers=refused.headers)
        except (MiniDockError, OSError, ValueError, KeyError) as error:
            status = 400 if isinstance(error, InvalidParameter) else 500
            response = Response(status, text=f"{error}\n", content_type="text/plain")
            self._log(f"{request.method} {request.path[:200]!r}: {error}")
        milliseconds = (time.monotonic() - begun) * 1000
        words = f"{request.method} {request.path[:200]!r} {response.status} {milliseconds:.1f} ms"
        self._log(f"{request.connection.peer} {caller.user or '-'} {words}")
        return response

    def _answer(self, request: Request, caller: Caller) -> Response:
        if request.path in ("/v2/", "/v2"):
            self._door.greet(caller, request)
            return Response(json={})
        if request.path == "/token" and self._door.tokens and request.method == "GET":
            return self._door.token(caller, request)
        act, run, values = self._find(request)
        if values:
            self._door.demand(caller, request, act, check_name(values[0]))
        if self._stores.read_only and act != "pull" and values:
            raise RegistryError("UNSUPPORTED", "this registry is read only")
        may_read = lambda name: self._door.may(caller.user, "read", name)  # noqa: E731
        return run(Call(self._stores, request, may_read), *values)

    def _find(self, request: Request) -> tuple[str, Handler, tuple[str, ...]]:
        found = False
        for method, path, act, run in self._table:
            match = path.match(request.path)
            if match is not None and method == request.method:
                return act, run, match.groups()
            found = found or match is not None
        if found:
            raise RegistryError("UNSUPPORTED", f"{request.method} is not supported here")
        raise RegistryError("UNSUPPORTED", "page not found", status=404)


# %% What it is told
@dataclass(frozen=True, slots=True)
class Options:
    """The command line. Paths of files that are not wanted are None."""

    root: Path
    listen: str = "127.0.0.1:5000"
    htpasswd: Path | None = None
    access: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    read_only: bool = False
    tokens: bool = False
    lease: float = LEASE


def address(text: str) -> tuple[str, int]:
    """``ADDRESS:PORT``, ``[ADDRESS]:PORT`` or ``:PORT`` (all addresses); port 0 takes a free one."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise InvalidParameter(f"invalid address {text!r} for --listen: want ADDRESS:PORT")
    return host.strip("[]"), int(port)


def _tls(options: Options) -> ssl.SSLContext | None:
    if (options.tls_cert is None) != (options.tls_key is None):
        raise InvalidParameter("--tls-cert and --tls-key: give both or neither")
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(f"--tls-cert {options.tls_cert}, --tls-key: {error}") from None
    return context


def _door(options: Options, log: Callable[[str], object]) -> Door:
    """Users and rules; a file that is bad from the start is an error that names it."""
    try:
        path = options.htpasswd
        users = Users(path, log) if path else None
        path = options.access
        rules = Watched(path, read_rules, log) if path else None
    except (OSError, ValueError, InvalidParameter) as error:
        raise InvalidParameter(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return Door(users, rules, options.tls_cert is not None, options.tokens)


# %% Serving
def serve(options: Options, ready: Callable[[str], object] = print) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` is told the address when we listen."""
    log = lambda line: sys.stderr.write(f"{line}\n")  # noqa: E731
    context, door = _tls(options), _door(options, log)
    storage = Storage(options.root, options.lease)
    storage.prepare()
    stores = Stores(storage, Manifests(), Uploads(storage), options.read_only)
    registry = Registry(stores, door, log)
    listener = _listen(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop(listener))
    if not options.read_only:
        threading.Thread(target=_keep_house, args=(stores, log), daemon=True).start()
    host, port = listener.getsockname()[:2]
    ready(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    Server(listener, registry, HEADERS, lambda peer: _prepare(peer, context)).serve_forever()


def _listen(options: Options) -> socket.socket:
    host, port = address(options.listen)
    both = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if ":" in host or both else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise Conflict(f"listen {options.listen}: {error.strerror}") from None
    local = host.startswith("127.") or host in ("::1", "localhost")
    if options.htpasswd is None and not local:
        sys.stderr.write(
            f"WARNING: everybody who reaches {options.listen} may read and write here:"
            " use --htpasswd\n"
        )
    return listener


def _prepare(peer: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    """A new connection, in its own thread: small packets go at once, silence has an end, TLS."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.settimeout(PATIENCE)
    return peer if context is None else context.wrap_socket(peer, server_side=True)


def _keep_house(stores: Stores, log: Callable[[str], object]) -> None:
    """Collect garbage and end old uploads, every hour; one process at a time."""
    while True:
        try:
            with locked(stores.storage.root / ".gc.lock"):
                collect(stores.storage, stores.uploads)
        except (MiniDockError, OSError) as error:
            log(f"garbage collection: {error}")
        time.sleep(3600)
