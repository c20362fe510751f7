"""Searching: what ``docker search localhost:5000/term`` asks a registry.

The distribution specification has no search. Docker has one that is older
than it: version 1 of the registry's API, of which only this is left alive.
Its answers have stars and a mark for official images; we have neither
people who give stars nor offices, so the count is 0, and official is what
lies in ``library/``, as on Docker Hub.

A description is taken from where its author can put it: an annotation of
the manifest, or a label of the image.

**Interface:** the handlers.

**See:** Docker Registry API 1, "Search"; OCI image specification,
annotations.md.
"""

from typing import Any

from minidock.paths import read_json
from minidock.registry.server_call import Call
from minidock.registry.storage import Repository
from minidock.server import Response

DESCRIPTION = "org.opencontainers.image.description"
DEFAULT, MOST = 25, 100


# %% The old API
def ping(call: Call) -> Response:
    """``/v1/_ping``: how Docker finds out that there is something to search."""
    return Response(json=True, headers={"X-Docker-Registry-Standalone": "true"})


def search(call: Call) -> Response:
    """``/v1/search?q=…&n=…``: repositories whose name or description contains the term."""
    term = call.request.query.get("q", "").strip().lower()
    n = max(1, min(call.request.number("n", DEFAULT) or DEFAULT, MOST))
    found = []
    for name in call.stores.storage.names():
        if call.may_read(name) and call.stores.manifests.index(call.repository(name)).tags:
            about = describe(call, call.repository(name))
            if term in name or term in about.lower():
                found.append((_rank(term, name), name, about))
    results = [_result(name, about) for _, name, about in sorted(found)[:n]]
    values = {"query": term, "num_results": len(results), "results": results}
    return Response(json={**values, "page": 1, "num_pages": 1, "page_size": n})


def _rank(term: str, name: str) -> int:
    """The better the earlier: the last part of the name is it, begins with it, contains it."""
    last = name.rpartition("/")[2]
    fits = (last == term, last.startswith(term), term in last, term in name)
    return fits.index(True) if True in fits else len(fits)


def _result(name: str, about: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": about,
        "star_count": 0,
        "pull_count": 0,
        "is_official": name.startswith("library/"),
        "is_automated": False,
        "is_trusted": False,
    }


# %% Descriptions
def describe(call: Call, repository: Repository) -> str:
    """What the image ``latest``, or else the last tag, says about itself; empty if nothing."""
    tags = call.stores.manifests.index(repository).tags
    entry = tags.get("latest") or tags[max(tags)]
    try:
        manifest = read_json(repository.path(entry.digest))
        about = (manifest.get("annotations") or {}).get(DESCRIPTION)
        if about is None and str(manifest.get("config", {}).get("mediaType")).endswith("+json"):
            config = read_json(repository.path(manifest["config"]["digest"]))
            about = ((config.get("config") or {}).get("Labels") or {}).get(DESCRIPTION)
    except (OSError, ValueError, KeyError, AttributeError):
        return ""  # a search is not the place to complain about one image
    return str(about or "")
