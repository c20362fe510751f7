"""Routes about the system, its events, networks and volumes.

**Interface:** :data:`ROUTES`.

**See:** Engine API, "System", "Network".
"""

import json
from collections.abc import Iterator

from minidock.api.containers import moment
from minidock.engine import Engine
from minidock.errors import NotFound, NotSupported
from minidock.server import Request, Response, Route


# %% The system
def ping(engine: Engine, request: Request) -> Response:
    """Is anybody there?"""
    headers = {"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache"}
    return Response(text="OK", content_type="text/plain; charset=utf-8", headers=headers)


def version(engine: Engine, request: Request) -> Response:
    """``docker version``."""
    return Response(json=engine.version())


def info(engine: Engine, request: Request) -> Response:
    """``docker info``."""
    return Response(json=engine.info())


def events(engine: Engine, request: Request) -> Response:
    """``docker events``."""
    found = engine.events(
        since=moment(request, "since"), until=moment(request, "until"), filters=request.filters()
    )

    def pieces() -> Iterator[bytes]:
        for event in found:
            yield json.dumps(event).encode() + b"\n" if event else b""

    return Response(pieces=pieces())


# %% Networks and volumes
def networks(engine: Engine, request: Request) -> Response:
    """``docker network ls``."""
    return Response(json=engine.networks())


def network(engine: Engine, request: Request, name: str) -> Response:
    """``docker network inspect``."""
    for one in engine.networks():
        if one["Name"] == name or one["Id"].startswith(name):
            return Response(json=one)
    raise NotFound(f"network {name} not found")


def volumes(engine: Engine, request: Request) -> Response:
    """``docker volume ls``: there are none."""
    return Response(json={"Volumes": [], "Warnings": []})


def not_yet(engine: Engine, request: Request, *values: str) -> Response:
    """What other issues will bring."""
    raise NotSupported(f"{request.method} {request.path} is not supported by MiniDock")


# %% The routes
ROUTES: list[Route] = [
    ("GET", "/_ping", ping),
    ("HEAD", "/_ping", ping),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("GET", "/events", events),
    ("GET", "/networks", networks),
    ("GET", "/networks/{name}", network),
    ("GET", "/volumes", volumes),
    ("POST", "/networks/create", not_yet),
    ("POST", "/volumes/create", not_yet),
    ("POST", "/build", not_yet),
]
