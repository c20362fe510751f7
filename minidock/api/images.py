"""Routes about images.

**Interface:** :data:`ROUTES`.

**See:** Engine API, "Image".
"""

import json
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, cast

from minidock.api.prefix import split
from minidock.engine import Engine
from minidock.errors import MiniDockError, NotSupported
from minidock.server import Request, Response, Route


# %% Looking
def list_(engine: Engine, request: Request) -> Response:
    """``docker images``."""
    filters, shared = request.filters(), request.flag("shared-size")
    if request.query.get("filter"):  # how clients of before 1.28 gave a name
        filters.setdefault("reference", []).append(request.query["filter"])
    found = engine.images.listed(filters, everything=request.flag("all"), shared=shared)
    return Response(json=sized(request, found))


def inspect(engine: Engine, request: Request, name: str) -> Response:
    """``docker image inspect``."""
    return Response(json=sized(request, [engine.images.inspect(name)])[0])


def sized(request: Request, images: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """With ``VirtualSize``, which was the same as ``Size``, and which clients before 1.44 look at."""
    version, _ = split(request.path)
    if version < (1, 44):
        for image in images:
            image["VirtualSize"] = image["Size"]
    return images


def history(engine: Engine, request: Request, name: str) -> Response:
    """``docker history``."""
    return Response(json=engine.images.history(name))


# %% Loading
def load(engine: Engine, request: Request) -> Response:
    """``docker load``: messages while it goes on, with ``quiet`` only the last ones."""
    quiet = request.flag("quiet")
    return Response(
        pieces=_messages(request, lambda body, say: engine.store.load(body, say, quiet))
    )


def _messages(request: Request, work: Any) -> Iterator[bytes]:
    """Run ``work`` beside us; what it says comes out as JSON lines, an error as the last of them."""
    queue: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

    def run() -> None:
        try:
            work(cast(BinaryIO, request.body), queue.put)
        except (MiniDockError, OSError) as error:
            queue.put({"errorDetail": {"message": str(error)}, "error": str(error)})
        except Exception as error:  # noqa: BLE001 (a bug; without a word the client would wait for ever)
            text = f"{type(error).__name__}: {error}"
            queue.put({"errorDetail": {"message": text}, "error": text})
        finally:
            queue.put(None)

    thread = Thread(target=copy_context().run, args=(run,), daemon=True)
    thread.start()
    while (message := queue.get()) is not None:
        yield json.dumps(message).encode() + b"\r\n"
    thread.join()


def create(engine: Engine, request: Request) -> Response:
    """``docker import`` (``fromSrc=-``) and ``docker pull`` (``fromImage``)."""
    from minidock.api.registry import pull

    return _import(engine, request) if request.query.get("fromSrc") else pull(engine, request)


def _import(engine: Engine, request: Request) -> Response:
    if request.query["fromSrc"] != "-":
        raise NotSupported("import from a URL is not supported by MiniDock: fetch it first")
    name, tag = request.query.get("repo", ""), request.query.get("tag", "")
    reference = (f"{name}:{tag}" if tag else name) or None
    changes = request.values("changes")

    def work(body: BinaryIO, say: Any) -> None:
        message = request.query.get("message", "")
        platform = request.query.get("platform", "")
        say({"status": engine.store.import_(body, reference, changes, message, platform)})

    return Response(pieces=_messages(request, work))


# %% Names
def tag(engine: Engine, request: Request, name: str) -> Response:
    """``docker tag``."""
    repository, tag_ = request.query.get("repo", ""), request.query.get("tag", "")
    engine.store.tag(name, f"{repository}:{tag_}" if tag_ else repository)
    return Response(201)


def remove(engine: Engine, request: Request, name: str) -> Response:
    """``docker rmi``."""
    force, prune = request.flag("force"), not request.flag("noprune")
    return Response(json=engine.store.remove(name, force=force, prune=prune))


# %% The routes
ROUTES: list[Route] = [
    ("GET", "/images/json", list_),
    ("POST", "/images/load", load),
    ("POST", "/images/create", create),
    ("GET", "/images/{name*}/json", inspect),
    ("GET", "/images/{name*}/history", history),
    ("POST", "/images/{name*}/tag", tag),
    ("DELETE", "/images/{name*}", remove),
]
