"""The requests that a registry understands, for one repository.

``/v2/<name>/manifests/<tag or digest>`` and ``/v2/<name>/blobs/<digest>``:
the rest is about getting a blob up in pieces, and about finding out how
this host is spoken to.

The traps. What comes is believed only if it has the digest that was asked
for; where a tag was asked for, the server's ``Docker-Content-Digest`` must
be that of the bytes that came. A server that does not know a media type
sends something older instead, so the request says all that we understand.
And HEAD has no body to explain a refusal: ask again by GET.

**Interface:** :class:`Repository`, :class:`Content`, :func:`ping`,
:func:`login`.

**See:** OCI distribution specification 1.1, "Endpoints".
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from minidock.errors import HostileArchive, MiniDockError
from minidock.registry.auth import Authorizer, Credentials, Unauthorized
from minidock.registry.settings import Settings
from minidock.registry.transport import (
    ATTEMPTS,
    Answer,
    Cancel,
    Transport,
    Unreachable,
    backoff,
    pause,
    same_host,
)
from minidock.registry.words import refusal
from minidock.spec import image as oci
from minidock.spec.reference import DEFAULT_DOMAIN

ACCEPT = ", ".join([*sorted(oci.INDEXES), *sorted(oci.MANIFESTS)])
LARGEST_MANIFEST = 4 << 20


# %% A manifest, as it came
@dataclass(frozen=True, slots=True)
class Content:
    """``data`` are the bytes that have the ``digest``: never to be written anew."""

    media_type: str
    digest: str
    data: bytes


def digest_of(data: bytes, like: str = "sha256:") -> str:
    """The digest of ``data``, by the algorithm of the digest ``like``."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


# %% How this host is spoken to
def ping(
    transport: Transport, host: str, authorizer: Authorizer, cancel: Cancel | None = None
) -> str:
    """``https://host`` or ``http://host``: tried out, the second only where it may be."""
    schemes = ["https", "http"] if transport.settings.is_insecure(host) else ["https"]
    for scheme in schemes:
        url = f"{scheme}://{host}/v2/"
        try:
            # A line that is refused stays so; a busy server gets its time.
            answer = transport.send("GET", url, {}, None, cancel, attempts=1)
            if answer.status >= 429:
                answer.close()
                answer = transport.send("GET", url, {}, None, cancel)
        except Unreachable:
            if scheme == schemes[-1]:
                raise
            continue
        with answer:
            if answer.status == 401 and authorizer.heard(answer):
                answer.small()
            elif answer.status not in (200, 404):  # 404: it does not say, but may still be one
                raise refusal(answer)
            else:
                answer.small()
        return f"{scheme}://{host}"
    raise AssertionError("the last scheme has returned or raised")


# %% Login
def login(settings: Settings, credentials: Credentials) -> dict[str, str]:
    """``POST /auth``: whether the registry believes it; returns the Engine API's answer."""
    host = settings.host(server_domain(credentials.server))
    transport = Transport(settings)
    try:
        authorizer = Authorizer(transport, host, credentials)
        base = ping(transport, host, authorizer)
        refresh = authorizer.refresh_token()
        with transport.send("GET", f"{base}/v2/", authorizer.headers(())) as answer:
            if answer.status == 401:
                raise Unauthorized(
                    f"login attempt to {base}/v2/ failed with status: 401 Unauthorized"
                )
            answer.small()
    finally:
        transport.close()
    return {"Status": "Login Succeeded", "IdentityToken": refresh}


def server_domain(server: str) -> str:
    """The domain of names out of what people give to login: a URL, a host, or nothing."""
    host = urlsplit(server if "//" in server else f"//{server}").netloc or DEFAULT_DOMAIN
    return DEFAULT_DOMAIN if host == f"index.{DEFAULT_DOMAIN}" else host


# %% One repository
class Repository:
    """``path`` at the registry of ``domain``, as seen by one user for ``acts`` (pull, push)."""

    def __init__(
        self,
        settings: Settings,
        domain: str,
        path: str,
        credentials: Credentials,
        acts: str = "pull",
        cancel: Cancel | None = None,
    ) -> None:
        self.domain, self.path = domain, path
        self.cancel = cancel or Cancel()
        self.settings = settings
        self._host = settings.host(domain)
        self._transport = Transport(settings)
        self._authorizer = Authorizer(self._transport, self._host, credentials)
        self._scopes: tuple[str, ...] = (f"repository:{path}:{acts}",)
        self._base = ""

    def open(self) -> None:
        """Find out how the host is spoken to, and what it wants to hear."""
        self._base = ping(self._transport, self._host, self._authorizer, self.cancel)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def _url(self, rest: str) -> str:
        return f"{self._base}/v2/{quote(self.path)}/{rest}"

    def call(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        *,
        scopes: tuple[str, ...] = (),
        attempts: int = ATTEMPTS,
    ) -> Answer:
        """A request with all that belongs to it; one more try when the token was refused."""
        wanted = tuple(sorted({*self._scopes, *scopes}))
        for last in (False, True):
            allowed = self._allowed(url, wanted)
            fields = {**(headers or {}), **allowed}
            answer = self._transport.send(method, url, fields, body, self.cancel, attempts)
            if answer.status != 401 or last:
                return answer
            with answer:
                if not self._authorizer.heard(answer):
                    raise refusal(answer)
                answer.small()
            self._authorizer.forget(wanted)
        raise AssertionError("the second try has returned")

    def _allowed(self, url: str, scopes: tuple[str, ...]) -> dict[str, str]:
        """Our words, for this registry's ears only."""
        if not same_host(url, self._base):
            return {}
        try:
            return self._authorizer.headers(scopes, self.cancel)
        except Unauthorized as error:
            words = str(error)
            if words == "no basic auth credentials":
                words = f'Head "{url}": {words}' if "/manifests/" in url else words
            raise Unauthorized(words) from None

    # %% Manifests
    def head(self, which: str) -> str:
        """The digest of the manifest ``which`` (tag or digest); empty if the server does not tell."""
        url = self._url(f"manifests/{which}")
        with self.call("HEAD", url, {"Accept": ACCEPT}) as answer:
            answer.small()
            return answer.header("Docker-Content-Digest") if answer.status == 200 else ""

    def manifest(self, which: str) -> Content:
        """The manifest or index ``which``, by tag or by digest, checked."""
        url = self._url(f"manifests/{which}")
        data, announced, kind = self._fetch(url, LARGEST_MANIFEST)
        wanted = which if ":" in which else announced
        digest = digest_of(data, oci.check_digest(wanted) if wanted else "sha256:")
        for one in (wanted, announced):
            if one and digest_of(data, oci.check_digest(one)) != one:
                raise HostileArchive(
                    f"manifest verification failed for digest {one}: what came is {digest}"
                )
        _object(data)
        return Content(kind, digest, data)

    def _fetch(self, url: str, limit: int) -> tuple[bytes, str, str]:
        """A small thing, whole, over a line that may break; its announced digest, its type."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.call("GET", url, {"Accept": ACCEPT}) as answer:
                    if answer.status != 200:
                        raise refusal(answer)
                    kind = answer.header("Content-Type").partition(";")[0].strip()
                    return answer.small(limit), answer.header("Docker-Content-Digest"), kind
            except Unreachable:
                if attempt == ATTEMPTS:
                    raise
                pause(backoff(attempt), self.cancel)
        raise AssertionError("the last attempt has returned or raised")

    def put_manifest(self, which: str, content: Content) -> None:
        """Publish a manifest under a tag or its digest."""
        headers = {"Content-Type": content.media_type}
        url = self._url(f"manifests/{which}")
        with self.call("PUT", url, headers, content.data) as answer:
            if answer.status not in (200, 201, 202):
                raise refusal(answer)
            answer.small()
            named = answer.header("Docker-Content-Digest")
        if named and named != digest_of(content.data, oci.check_digest(named)):
            raise MiniDockError(
                f"the registry calls what it was given {named}, not {content.digest}"
            )

    def tags(self) -> list[str]:
        """All tags; a long list comes in pages, each with a link to the next."""
        url, found = self._url("tags/list"), list[str]()
        while url:
            with self.call("GET", url) as answer:
                if answer.status != 200:
                    raise refusal(answer)
                page = _object(answer.small())
                link = answer.header("Link")
            found += [str(tag) for tag in page.get("tags") or []]
            target = link[link.find("<") + 1 : link.find(">")] if 'rel="next"' in link else ""
            url = urljoin(url, target) if target else ""
        return found

    # %% Blobs
    def blob(self, digest: str, start: int = 0) -> Answer:
        """The blob from byte ``start`` on; status 206 if the server takes up there, 200 if not."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self.call("GET", self._url(f"blobs/{digest}"), headers)
        if answer.status not in (200, 206):
            with answer:
                raise refusal(answer)
        return answer

    def small_blob(self, digest: str, limit: int = 8 << 20) -> bytes:
        """A configuration, checked."""
        data, _, _ = self._fetch(self._url(f"blobs/{digest}"), limit)
        if digest_of(data, oci.check_digest(digest)) != digest:
            raise HostileArchive(f"image config verification failed for digest {digest}")
        return data

    def has_blob(self, digest: str) -> bool:
        """Whether it is there already."""
        with self.call("HEAD", self._url(f"blobs/{digest}")) as answer:
            answer.small()
            return answer.status == 200

    # %% Sending a blob
    def begin_upload(self, digest: str = "", source: str = "") -> str:
        """Where to send a blob; empty if the registry has it from its repository ``source`` already."""
        query = {"mount": digest, "from": source} if source else {}
        url = self._url("blobs/uploads/") + (f"?{urlencode(query)}" if query else "")
        scopes = (f"repository:{source}:pull",) if source else ()
        with self.call("POST", url, {"Content-Length": "0"}, scopes=scopes) as answer:
            if answer.status == 201 and source:
                answer.small()
                return ""
            if answer.status != 202:
                raise refusal(answer)
            answer.small()
            return self._location(answer, url)

    def put_blob(self, data: bytes, digest: str) -> None:
        """A small blob, in one piece."""
        place = self.begin_upload()
        headers = {"Content-Type": "application/octet-stream"}
        with self.call("PUT", _with_digest(place, digest), headers, data) as answer:
            if answer.status not in (201, 204):
                raise refusal(answer)
            answer.small()

    def _location(self, answer: Answer, url: str) -> str:
        place = urljoin(url, answer.header("Location"))
        if urlsplit(place).scheme == "http" and urlsplit(url).scheme == "https":
            raise MiniDockError(f"the registry wants the data sent to {place} without TLS")
        return place

    def send_piece(self, place: str, start: int, size: int | None, data: Iterable[bytes]) -> str:
        """One PATCH from byte ``start`` on; ``size`` is None while it is not known yet."""
        headers = {"Content-Type": "application/octet-stream", **self._allowed(place, self._scopes)}
        if size is not None:
            headers["Content-Length"] = str(size)
            if start and size:  # a whole blob needs no range; some servers allow none
                headers["Content-Range"] = f"{start}-{start + size - 1}"
        else:
            headers["Transfer-Encoding"] = "chunked"
        with self._transport.once("PATCH", place, headers, iter(data)) as answer:
            if answer.status not in (200, 202, 204):
                raise refusal(answer)
            answer.small()
            return self._location(answer, place)

    def received(self, place: str) -> tuple[str, int]:
        """Where to go on after a broken line, and from which byte."""
        with self.call("GET", place) as answer:
            if answer.status != 204:
                raise refusal(answer)
            last = answer.header("Range").rpartition("-")[2]
            answer.small()
            place = self._location(answer, place)
        # "0-0" is what servers say of nothing at all, and of one byte.
        return place, int(last) + 1 if last.isdigit() and last != "0" else 0

    def end_upload(self, place: str, digest: str) -> None:
        """All has been sent: it is to be the blob ``digest``."""
        headers = {"Content-Length": "0", "Content-Type": "application/octet-stream"}
        with self.call("PUT", _with_digest(place, digest), headers, attempts=1) as answer:
            if answer.status not in (201, 204):
                raise refusal(answer)
            answer.small()


def _with_digest(place: str, digest: str) -> str:
    return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode({'digest': digest})}"


def _object(data: bytes) -> dict[str, Any]:
    from minidock.images.store import entry_of

    value = entry_of(data)
    if not isinstance(value, dict):
        raise HostileArchive(f"the registry's answer is not a JSON object: {data[:80]!r}")
    return value
