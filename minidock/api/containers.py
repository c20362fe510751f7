"""Routes about containers.

**Interface:** :data:`ROUTES`.

**See:** Engine API, "Container".
"""

import json
import time
from collections.abc import Iterator

from minidock.engine import Engine
from minidock.engine.attaching import Wishes
from minidock.engine.logs import Selection
from minidock.errors import InvalidParameter, NotFound
from minidock.server import Request, Response, Route

RAW, FRAMED = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"


# %% Create and look
def create(engine: Engine, request: Request) -> Response:
    """``docker create``."""
    return Response(201, engine.create(request.json(), request.query.get("name") or None))


def list_(engine: Engine, request: Request) -> Response:
    """``docker ps``."""
    found = engine.list(
        all=request.flag("all"),
        limit=max(request.number("limit", 0) or 0, 0),
        filters=request.filters(),
        size=request.flag("size"),
    )
    return Response(json=found)


def inspect(engine: Engine, request: Request, ref: str) -> Response:
    """``docker inspect``."""
    return Response(json=engine.inspect(ref, request.flag("size")))


def top(engine: Engine, request: Request, ref: str) -> Response:
    """``docker top``."""
    return Response(json=engine.top(ref, request.query.get("ps_args", "")))


# %% The lifecycle
def start(engine: Engine, request: Request, ref: str) -> Response:
    """``docker start``."""
    engine.start(ref)
    return Response(204)


def stop(engine: Engine, request: Request, ref: str) -> Response:
    """``docker stop``."""
    engine.stop(ref, request.number("t"), request.query.get("signal"))
    return Response(204)


def restart(engine: Engine, request: Request, ref: str) -> Response:
    """``docker restart``."""
    engine.restart(ref, request.number("t"), request.query.get("signal"))
    return Response(204)


def kill(engine: Engine, request: Request, ref: str) -> Response:
    """``docker kill``."""
    engine.kill(ref, request.query.get("signal") or "SIGKILL")
    return Response(204)


def pause(engine: Engine, request: Request, ref: str) -> Response:
    """``docker pause``."""
    engine.pause(ref, True)
    return Response(204)


def unpause(engine: Engine, request: Request, ref: str) -> Response:
    """``docker unpause``."""
    engine.pause(ref, False)
    return Response(204)


def update(engine: Engine, request: Request, ref: str) -> Response:
    """``docker update``."""
    return Response(json=engine.update(ref, request.json()))


def rename(engine: Engine, request: Request, ref: str) -> Response:
    """``docker rename``."""
    engine.rename(ref, request.query.get("name", ""))
    return Response(204)


def remove(engine: Engine, request: Request, ref: str) -> Response:
    """``docker rm``."""
    if request.flag("link"):
        raise InvalidParameter("links are not supported by MiniDock: there is none to remove")
    engine.remove(ref, force=request.flag("force"), volumes=request.flag("v"))
    return Response(204)


def wait(engine: Engine, request: Request, ref: str) -> Response:
    """``docker wait``: the head at once, so that the client knows we have begun to wait."""
    block = engine.wait(ref, request.query.get("condition", ""))

    def pieces() -> Iterator[bytes]:
        yield json.dumps(block()).encode() + b"\n"

    return Response(pieces=pieces())


# %% Streams
def logs(engine: Engine, request: Request, ref: str) -> Response:
    """``docker logs``."""
    tail = request.query.get("tail", "all")
    selection = Selection(
        follow=request.flag("follow"),
        stdout=request.flag("stdout"),
        stderr=request.flag("stderr"),
        since=moment(request, "since") or 0.0,
        until=moment(request, "until") or 0.0,
        timestamps=request.flag("timestamps"),
        details=request.flag("details"),
        tail=int(tail) if tail.isdigit() else None,  # as Docker: what is no number means all
    )
    terminal, pieces = engine.logs(ref, selection)
    return Response(pieces=pieces, content_type=RAW if terminal else FRAMED)


def moment(request: Request, name: str) -> float | None:
    """Seconds since 1970 with a fraction, as Docker's clients send times."""
    text = request.query.get(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidParameter(
            f'invalid value "{text}" for {name}: want seconds since 1970'
        ) from None


def attach(engine: Engine, request: Request, ref: str) -> Response:
    """``docker attach``: from here on the connection is the container's."""
    terminal = engine.tty(ref)
    request.body.drain()
    wishes = Wishes(
        *(request.flag(name) for name in ("stdin", "stdout", "stderr", "logs", "stream"))
    )
    engine.attach(
        ref, lambda: request.connection.hijack(request, RAW if terminal else FRAMED), wishes
    )
    return Response(taken=True)


def resize(engine: Engine, request: Request, ref: str) -> Response:
    """The window has another size."""
    engine.resize(ref, request.number("h", 0) or 0, request.number("w", 0) or 0)
    return Response(200)


def stats(engine: Engine, request: Request, ref: str) -> Response:
    """``docker stats``: a sample a second, each with the one before."""
    first = engine.stats(ref)
    if request.flag("one-shot"):
        return Response(json=first)

    def pieces() -> Iterator[bytes]:
        before, stream = first, request.flag("stream", True)
        if stream:
            yield json.dumps(before).encode() + b"\n"
        while True:
            for _ in range(10):
                time.sleep(0.1)
                yield b""
            try:
                now = engine.stats(ref)
            except NotFound:  # it has been removed
                return
            known = {"precpu_stats": before["cpu_stats"], "preread": before["read"]}
            yield json.dumps({**now, **known}).encode() + b"\n"
            if not stream:
                return
            before = now

    return Response(pieces=pieces())


# %% The routes
ROUTES: list[Route] = [
    ("POST", "/containers/create", create),
    ("GET", "/containers/json", list_),
    ("GET", "/containers/{ref}/json", inspect),
    ("GET", "/containers/{ref}/top", top),
    ("POST", "/containers/{ref}/start", start),
    ("POST", "/containers/{ref}/stop", stop),
    ("POST", "/containers/{ref}/restart", restart),
    ("POST", "/containers/{ref}/kill", kill),
    ("POST", "/containers/{ref}/pause", pause),
    ("POST", "/containers/{ref}/unpause", unpause),
    ("POST", "/containers/{ref}/update", update),
    ("GET", "/containers/{ref}/stats", stats),
    ("POST", "/containers/{ref}/rename", rename),
    ("DELETE", "/containers/{ref}", remove),
    ("POST", "/containers/{ref}/wait", wait),
    ("GET", "/containers/{ref}/logs", logs),
    ("POST", "/containers/{ref}/attach", attach),
    ("POST", "/containers/{ref}/resize", resize),
]
