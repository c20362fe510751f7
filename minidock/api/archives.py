"""Routes about files in containers: what ``docker cp`` asks for.

**Interface:** :data:`ROUTES`, :func:`piped`.

**See:** Engine API, "Get an archive of a filesystem resource in a container".
"""

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import BinaryIO, cast

from minidock.engine import Engine
from minidock.errors import InvalidParameter, MiniDockError
from minidock.server import Request, Response, Route

# %% Looking
STAT_HEADER = "X-Docker-Container-Path-Stat"


def _path(request: Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise InvalidParameter("missing parameter in request: path")
    return path if path.startswith("/") else f"/{path}"


def _stat_header(engine: Engine, ref: str, path: str) -> dict[str, str]:
    found = engine.copying.stat(engine.find(ref), path)
    return {STAT_HEADER: base64.b64encode(json.dumps(found).encode()).decode()}


def look(engine: Engine, request: Request, ref: str) -> Response:
    """``docker cp`` looks first."""
    return Response(headers=_stat_header(engine, ref, _path(request)))


# %% Out and in
def read(engine: Engine, request: Request, ref: str) -> Response:
    """``docker cp CONTAINER:PATH …``."""
    path = _path(request)
    headers = _stat_header(engine, ref, path)
    pieces = piped(lambda out: engine.copying.read(engine.find(ref), path, out))
    return Response(pieces=pieces, content_type="application/x-tar", headers=headers)


def piped(act: Callable[[BinaryIO], None]) -> Iterator[bytes]:
    """What ``act`` writes into a file, as it is written: a thread at the other end of a pipe."""
    reads, writes = os.pipe()
    failures: list[BaseException] = []

    def fill() -> None:
        try:
            with open(writes, "wb") as out:
                act(out)
        except BrokenPipeError:
            return  # the client has gone
        except (MiniDockError, OSError) as error:
            failures.append(error)

    # In our context, or nobody would hear of the steps.
    thread = threading.Thread(target=copy_context().run, args=(fill,), daemon=True)
    thread.start()
    with open(reads, "rb", buffering=0) as pipe:
        while piece := pipe.read(256 * 1024):
            yield piece
    thread.join()
    if failures:
        raise failures[0]


def write(engine: Engine, request: Request, ref: str) -> Response:
    """``docker cp … CONTAINER:PATH``."""
    body = cast(BinaryIO, request.body)
    keep_kind = request.flag("noOverwriteDirNonDir")
    engine.copying.write(engine.find(ref), _path(request), body, keep_kind=keep_kind)
    return Response(200)


# %% The routes
ROUTES: list[Route] = [
    ("HEAD", "/containers/{ref}/archive", look),
    ("GET", "/containers/{ref}/archive", read),
    ("PUT", "/containers/{ref}/archive", write),
]
