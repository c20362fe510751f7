"""Routes about versions: diff, commit, save, export.

**Interface:** :data:`ROUTES`.

**See:** Engine API, "ImageCommit", "ImageGet", "ContainerExport".
"""

from minidock.api.archives import piped
from minidock.engine import Engine
from minidock.engine.versions import Wish
from minidock.errors import InvalidParameter
from minidock.server import Request, Response, Route
from minidock.spec import reference

TAR = "application/x-tar"


# %% Containers
def changes(engine: Engine, request: Request, ref: str) -> Response:
    """``docker diff``."""
    return Response(json=engine.versions.changes(engine.find(ref)))


def commit(engine: Engine, request: Request) -> Response:
    """``docker commit``; the lines of ``changes`` may come in one piece or in several."""
    query = request.query
    name, tag = query.get("repo", ""), query.get("tag", "")
    if name:
        reference.parse(f"{name}:{tag}" if tag else name)
    container = engine.find(query.get("container") or query.get("containerId", ""))
    wish = Wish(
        name=(f"{name}:{tag}" if tag else name) or None,
        author=query.get("author", ""),
        comment=query.get("comment", ""),
        pause=request.flag("pause", True),
        changes=request.values("changes"),
        config=request.json(),
    )
    return Response(201, {"Id": engine.versions.commit(container, wish)})


def export(engine: Engine, request: Request, ref: str) -> Response:
    """``docker export``."""
    container = engine.find(ref)
    pieces = piped(lambda out: engine.versions.export(container, out))
    return Response(pieces=pieces, content_type=TAR)


# %% Images
def save(engine: Engine, request: Request) -> Response:
    """``docker save``: whether they are all there is said before the archive begins."""
    return _saved(engine, request.values("names"))


def save_one(engine: Engine, request: Request, name: str) -> Response:
    """The same with the one name in the path."""
    return _saved(engine, [name])


def _saved(engine: Engine, names: list[str]) -> Response:
    if not names:
        raise InvalidParameter("no images were named (names=…)")
    chosen = engine.images.chosen(names)
    return Response(pieces=piped(lambda out: engine.store.save(chosen, out)), content_type=TAR)


# %% The routes
ROUTES: list[Route] = [
    ("GET", "/containers/{ref}/changes", changes),
    ("GET", "/containers/{ref}/export", export),
    ("POST", "/commit", commit),
    ("GET", "/images/get", save),
    ("GET", "/images/{name*}/get", save_one),
]
