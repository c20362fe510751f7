"""The route of ``docker search``.

**Interface:** :data:`ROUTES`.

**See:** Engine API, "ImageSearch".
"""

from minidock.api.registry import credentials
from minidock.engine import Engine
from minidock.errors import InvalidParameter
from minidock.server import Request, Response, Route


# %% search
def search(engine: Engine, request: Request) -> Response:
    """``docker search``: the registry that the term names is asked."""
    term = request.query.get("term", "")
    if not term:
        raise InvalidParameter("invalid search: no term")
    limit = request.number("limit", 0) or 0
    found = engine.transfers.search(term, limit, request.filters(), credentials(request))
    return Response(json=found)


ROUTES: list[Route] = [("GET", "/images/search", search)]
