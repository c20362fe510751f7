"""Searching a registry for images, from the client's side.

``docker search localhost:5000/term`` is two questions: which registry, and
which of its repositories. The first is in the term, before the first slash;
the second is asked by version 1 of the registry's API, ``/v1/search``, the
only part of it that is in use. A registry that does not have it may have a
catalog, whose names can be looked through.

The trap is the limit: it is counted before the filters, as Docker does it.

**Interface:** :func:`search`.

**See:** Engine API, "ImageSearch"; moby ``registry/search.go``.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode, urljoin

from minidock.errors import InvalidParameter, MiniDockError
from minidock.registry.auth import Authorizer, Credentials
from minidock.registry.client import ping
from minidock.registry.settings import Settings
from minidock.registry.transport import Answer, Transport
from minidock.registry.words import refusal
from minidock.spec.reference import DEFAULT_DOMAIN

DEFAULT, MOST = 25, 100
FILTERS = ("is-automated", "is-official", "stars")
SCOPES = ("registry:catalog:*",)

Found = dict[str, Any]


# %% Searching
def search(
    settings: Settings, term: str, limit: int, filters: dict[str, list[str]], who: Credentials
) -> list[Found]:
    """Repositories in which ``term`` occurs, as the Engine API shows them; 0 is the usual limit."""
    limit = limit or DEFAULT
    if not 1 <= limit <= MOST:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, {MOST}]")
    fits = _filter(filters)
    domain, wanted = split(term)
    transport = Transport(settings)
    try:
        found = _ask(transport, _host(settings, domain), wanted, limit, who)
    finally:
        transport.close()
    return [one for one in map(_result, found) if fits(one)]


def split(term: str) -> tuple[str, str]:
    """The registry, and what to look for in it."""
    if "://" in term:
        raise InvalidParameter(f"invalid repository name ({term}): no scheme is wanted")
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return DEFAULT_DOMAIN, term


def _host(settings: Settings, domain: str) -> str:
    """The default registry is searched at another host than it is pulled from, unless it is ours."""
    host = settings.host(domain)
    return f"index.{DEFAULT_DOMAIN}" if host == Settings().default else host


# %% Asking
def _ask(transport: Transport, host: str, term: str, limit: int, who: Credentials) -> list[Found]:
    authorizer = Authorizer(transport, host, who)
    base = ping(transport, host, authorizer)
    headers = authorizer.headers(SCOPES)
    query = urlencode({"q": term, "n": limit})
    with transport.send("GET", f"{base}/v1/search?{query}", headers) as answer:
        if answer.status == 200:
            return list(_json(answer).get("results") or [])
        if answer.status != 404:
            raise refusal(answer)
        answer.small()
    names = _catalog(transport, f"{base}/v2/_catalog", headers)
    found = ({"name": name} for name in names if term.lower() in name)
    return [one for one, _ in zip(found, range(limit), strict=False)]


def _catalog(transport: Transport, url: str, headers: dict[str, str]) -> Iterator[str]:
    """All names of the catalog, page by page."""
    while url:
        with transport.send("GET", url, headers) as answer:
            if answer.status != 200:
                raise refusal(answer)
            yield from _json(answer).get("repositories") or []
            link = answer.header("Link")
            after = link.partition("<")[2].partition(">")[0] if 'rel="next"' in link else ""
            url = urljoin(url, after) if after else ""


def _json(answer: Answer) -> dict[str, Any]:
    try:
        value = json.loads(answer.small())
    except ValueError as error:
        raise MiniDockError(f"{answer.url}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MiniDockError(f"{answer.url}: not a JSON object")
    return value


# %% Results and filters
def _result(one: Found) -> Found:
    return {
        "name": str(one.get("name", "")),
        "description": str(one.get("description") or ""),
        "star_count": int(one.get("star_count") or 0),
        "is_official": bool(one.get("is_official")),
        "is_automated": bool(one.get("is_automated")),
    }


def _filter(filters: dict[str, list[str]]) -> Callable[[Found], bool]:
    """What all the filters let through; a bad one in Docker's words."""
    flags: dict[str, bool] = {}
    for name in ("is-automated", "is-official"):
        for value in filters.get(name, [])[:1]:
            if value.lower() not in ("true", "false", "1", "0"):
                raise InvalidParameter(f"invalid filter '{name}={value}'")
            flags[name.replace("-", "_")] = value.lower() in ("true", "1")
    unknown = sorted(filters.keys() - set(FILTERS))
    if unknown:
        raise InvalidParameter(f"invalid filter '{unknown[0]}'")
    stars = [value for value in filters.get("stars", []) if not value.isdecimal()]
    if stars:
        raise InvalidParameter(f"invalid filter 'stars={stars[0]}'")
    least = max((int(value) for value in filters.get("stars", [])), default=0)
    return lambda one: (
        one["star_count"] >= least and all(one[name] == value for name, value in flags.items())
    )
