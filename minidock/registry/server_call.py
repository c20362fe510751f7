"""What every handler of the registry gets, and what several of them need.

**Interface:** :class:`Stores`, :class:`Call`, :func:`page`, :func:`created`,
:func:`unchanged`.

**See:** OCI distribution specification, "Listing Tags" (pages); RFC 8288
(``Link``); RFC 9110, 13.1.2 (``If-None-Match``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from minidock.registry.codes import RegistryError
from minidock.registry.storage import Repository, Storage
from minidock.registry.storage_manifests import Manifests
from minidock.registry.storage_uploads import Uploads
from minidock.server import Request, Response


# %% A call
@dataclass(frozen=True, slots=True)
class Stores:
    """What a registry keeps."""

    storage: Storage
    manifests: Manifests
    uploads: Uploads
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A request, what it is about, and what else its caller may read."""

    stores: Stores
    request: Request
    may_read: Callable[[str], bool]

    def repository(self, name: str) -> Repository:
        """The repository that the path names."""
        return self.stores.storage.repository(name)


# %% Answers
def created(location: str, digest: str, **headers: str) -> Response:
    """201, and where it is."""
    return Response(201, headers={"Location": location, "Docker-Content-Digest": digest, **headers})


def unchanged(request: Request, digest: str) -> Response | None:
    """304 if the client has it: what a digest names never changes."""
    etag = f'"{digest}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(304, headers={"ETag": etag, "Docker-Content-Digest": digest})
    return None


def page(
    request: Request, names: Sequence[str], most: int | None = None
) -> tuple[Sequence[str], dict[str, str]]:
    """The ``n`` names after ``last``; and, if there are more, the header that says where.

    ``names`` are in the order of ASCII; ``most`` is a page where none is asked for.
    """
    text, last = request.query.get("n"), request.query.get("last", "")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RegistryError("UNSUPPORTED", f"n={text[:20]}: want a number", status=400)
    n = most if text is None else min(int(text), most or int(text))
    rest = [name for name in names if name > last] if last else names
    if n is None or n >= len(rest):
        return rest, {}
    if n == 0:
        return [], {}
    others = [(key, value) for key, value in request.pairs if key not in ("n", "last")]
    query = urlencode([*others, ("n", str(n)), ("last", rest[n - 1])])
    return rest[:n], {"Link": f'<{quote(request.path)}?{query}>; rel="next"'}
