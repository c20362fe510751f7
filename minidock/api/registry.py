"""Routes about registries: pull, push, what a name leads to, login.

**Interface:** :data:`ROUTES`, :func:`pull`.

The traps. What goes wrong before the first message is an error with a
status; what goes wrong later comes as the last message of a stream that has
long begun with 200. And a client that has gone wants nothing more: its pull
ends, unless somebody else waits for it, too.

**See:** Engine API, "ImageCreate", "ImagePush", "DistributionInspect",
"SystemAuth", "Authentication".
"""

import json
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from minidock.engine import Engine
from minidock.errors import InvalidParameter, MiniDockError
from minidock.server import Request, Response, Route
from minidock.spec.reference import Reference, parse

if TYPE_CHECKING:  # an HTTP client is needed by who pulls, and by nobody else
    from minidock.registry.auth import Credentials
    from minidock.registry.transport import Cancel

Message = dict[str, Any]
Work = Callable[[Callable[[Message], object], "Cancel"], object]


# %% A stream of messages
def stream(work: Work) -> Response:
    """Run ``work`` beside us: what it says, as JSON lines; it is cancelled when the client goes."""
    from minidock.registry.transport import Cancel

    queue: SimpleQueue[Message | BaseException | None] = SimpleQueue()
    cancel, context = Cancel(), copy_context()

    def run() -> None:
        try:
            context.run(work, queue.put, cancel)
        except Exception as error:  # noqa: BLE001 (told to the client, who would wait for ever)
            queue.put(error)
        finally:
            queue.put(None)

    Thread(target=run, name="transfer", daemon=True).start()
    first = queue.get()
    if isinstance(first, BaseException):  # nothing was said yet: an error like any other
        raise first
    return Response(pieces=_lines(first, queue, cancel))


def _lines(
    first: Message | None,
    queue: "SimpleQueue[Message | BaseException | None]",
    cancel: "Cancel",
) -> Iterator[bytes]:
    message: Message | BaseException | None = first
    try:
        while message is not None:
            if isinstance(message, BaseException):
                known = isinstance(message, MiniDockError | OSError)
                words = str(message) if known else f"{type(message).__name__}: {message}"
                message = {"errorDetail": {"message": words}, "error": words}
            yield json.dumps(message).encode() + b"\r\n" if message else b""
            try:
                message = queue.get(timeout=0.5)
            except Empty:
                message = {}  # the server looks whether the client is still there
    finally:
        cancel.set()


# %% Pull and push
def pull(engine: Engine, request: Request) -> Response:
    """``docker pull``: a tag, a digest, or (the name alone) all tags."""
    text, tag = request.query.get("fromImage", ""), request.query.get("tag", "")
    name, who = parse(text), credentials(request)
    if tag:
        name = parse(f"{name.name}{'@' if ':' in tag else ':'}{tag}")
    elif text.rpartition("/")[2].find(":") < 0 and "@" not in text:
        return stream(lambda say, cancel: engine.transfers.pull_all(name, who, say, cancel))
    platform = request.query.get("platform", "")
    return stream(lambda say, cancel: engine.transfers.pull(name, platform, who, say, cancel))


def push(engine: Engine, request: Request, text: str) -> Response:
    """``docker push``: one tag, or all."""
    name, who = parse(text), credentials(request)
    tag = request.query.get("tag", "")
    return stream(lambda say, cancel: engine.transfers.push(_bare(name), tag, who, say, cancel))


def _bare(name: Reference) -> Reference:
    return replace(name, tag="")


def credentials(request: Request) -> "Credentials":
    """Who asks, by ``X-Registry-Auth``."""
    from minidock.registry.auth import Credentials

    return Credentials.from_header(request.headers.get("x-registry-auth", ""))


# %% Asking a registry
def distribution(engine: Engine, request: Request, text: str) -> Response:
    """``docker manifest inspect`` and friends."""
    return Response(json=engine.transfers.distribution(text, credentials(request)))


def login(engine: Engine, request: Request) -> Response:
    """``docker login``."""
    body = request.json()
    if not body.get("username") and not body.get("identitytoken"):
        raise InvalidParameter("username and password are required")
    return Response(json=engine.transfers.login(body))


ROUTES: list[Route] = [
    ("POST", "/auth", login),
    ("POST", "/images/{name*}/push", push),
    ("GET", "/distribution/{name*}/json", distribution),
]
