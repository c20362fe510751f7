"""The table of routes, and what happens to every request.

A route is a method, a path with holes, and a handler. Clients put the
version they speak before the path (``/v1.47/info``); :mod:`.prefix` checks
what it may be.

**Interface:** :class:`Router`.

**See:** moby ``api/server/router``.
"""

from collections.abc import Callable

from minidock.api import (
    archives,
    containers,
    execs,
    images,
    registry,
    search,
    system,
    usage,
    versions,
)
from minidock.api.prefix import without_version
from minidock.api.status import status_of
from minidock.api.trace import Hub
from minidock.engine import Engine
from minidock.errors import MiniDockError, NotFound
from minidock.server import Request, Response, Route, pattern

Handler = Callable[..., Response]

TABLE: list[Route] = [
    *system.ROUTES,
    *usage.ROUTES,
    *versions.ROUTES,
    *containers.ROUTES,
    *archives.ROUTES,
    *execs.ROUTES,
    *search.ROUTES,
    *images.ROUTES,
    *registry.ROUTES,
]


# %% Finding the handler
class Router:
    """Answers requests with the handlers of the table."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.hub = Hub()
        self._table = [(method, pattern(path), handler) for method, path, handler in TABLE]

    def __call__(self, request: Request) -> Response:
        """Handle one request; an error becomes a status and one line."""
        try:
            path = without_version(request.path)
            if path.startswith("/minidock/trace/"):
                return Response(pieces=self.hub.listen(path.rpartition("/")[2]))
            handler, values = self._find(request.method, path)
            traced = self.hub.traced(request.headers)
            if traced is None:
                return handler(self.engine, request, *values)
            with traced:
                return handler(self.engine, request, *values)
        except (MiniDockError, OSError) as error:
            status = status_of(error)
            return Response(status, None if status == 304 else {"message": str(error)})
        except Exception as error:  # noqa: BLE001 (a bug; the client hears of it, the log has more)
            from traceback import print_exc

            print_exc()
            return Response(status_of(error), {"message": f"{type(error).__name__}: {error}"})

    def _find(self, method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
        for known, path_, handler in self._table:
            match = path_.match(path) if method == known else None
            if match is not None:
                return handler, match.groups()
        raise NotFound("page not found")
