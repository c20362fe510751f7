"""Routes about the use of the disk: how much of what, and away with it.

There are no volumes, no networks of one's own and no build cache yet, so
nothing of these can be rubbish; clients ask all the same.

**Interface:** :data:`ROUTES`.

**See:** Engine API, "SystemDataUsage", "ImagePrune", "BuildPrune".
"""

from minidock.api.images import sized
from minidock.engine import Engine
from minidock.server import Request, Response, Route


# %% The handlers
def usage(engine: Engine, request: Request) -> Response:
    """``docker system df``."""
    found = engine.store.usage(request.values("type"))
    sized(request, found.get("Images") or [])
    return Response(json=found)


def containers(engine: Engine, request: Request) -> Response:
    """``docker container prune``."""
    return Response(json=engine.store.prune_containers(request.filters()))


def images(engine: Engine, request: Request) -> Response:
    """``docker image prune``."""
    return Response(json=engine.store.prune_images(request.filters()))


def volumes(engine: Engine, request: Request) -> Response:
    """``docker volume prune``."""
    return Response(json={"VolumesDeleted": [], "SpaceReclaimed": 0})


def networks(engine: Engine, request: Request) -> Response:
    """``docker network prune``."""
    return Response(json={"NetworksDeleted": None})


def cache(engine: Engine, request: Request) -> Response:
    """``docker builder prune``."""
    return Response(json={"CachesDeleted": None, "SpaceReclaimed": 0})


ROUTES: list[Route] = [
    ("GET", "/system/df", usage),
    ("POST", "/containers/prune", containers),
    ("POST", "/images/prune", images),
    ("POST", "/volumes/prune", volumes),
    ("POST", "/networks/prune", networks),
    ("POST", "/build/prune", cache),
]
