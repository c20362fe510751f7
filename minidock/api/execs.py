"""Routes about exec.

**Interface:** :data:`ROUTES`.

**See:** Engine API, "Exec".
"""

from minidock.api.containers import FRAMED, RAW
from minidock.engine import Engine
from minidock.server import Request, Response, Route


# %% The handlers
def create(engine: Engine, request: Request, ref: str) -> Response:
    """Describe an exec."""
    return Response(201, {"Id": engine.exec_create(ref, request.json())})


def start(engine: Engine, request: Request, exec_id: str) -> Response:
    """Run it; unless it is detached, the connection is its from here on."""
    body = request.json()
    request.body.drain()
    terminal = engine.exec_tty(exec_id)
    if body.get("Detach"):
        engine.exec_start(exec_id, None, body, b"")
        return Response(200)
    engine.exec_check(exec_id)
    client, early = request.connection.hijack(request, RAW if terminal else FRAMED)
    engine.exec_start(exec_id, client, body, early)
    return Response(taken=True)


def resize(engine: Engine, request: Request, exec_id: str) -> Response:
    """The window has another size."""
    engine.exec_resize(exec_id, request.number("h", 0) or 0, request.number("w", 0) or 0)
    return Response(200)


def inspect(engine: Engine, request: Request, exec_id: str) -> Response:
    """What came of it."""
    return Response(json=engine.exec_inspect(exec_id))


# %% The routes
ROUTES: list[Route] = [
    ("POST", "/containers/{ref}/exec", create),
    ("POST", "/exec/{id}/start", start),
    ("POST", "/exec/{id}/resize", resize),
    ("GET", "/exec/{id}/json", inspect),
]
