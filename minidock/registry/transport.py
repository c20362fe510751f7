"""HTTP to a registry, whatever it takes: TLS, redirects, retries.

The standard library's ``http.client`` sends one request over one
connection. A registry needs more: certificates of one's own, being sent on
to another host for the data, and patience with a server that is busy or a
line that breaks.

The traps. A request that is sent on must not take its password along to
another host. A server that says when to come back (``Retry-After``) means
it. A connection that was kept open may have been closed by the other side
in the meantime, which is no failure. And Docker speaks plain HTTP to
nobody but this very machine, unless it is told to.

**Interface:** :class:`Transport`, :class:`Answer`,
:class:`Cancel`.

**See:** RFC 9110 (HTTP), 10.2.3 ``Retry-After``, 15.4 redirection; Docker's
manual, "Verify repository client with certificates" (``certs.d``).
"""

import errno
import http.client
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from urllib.parse import urljoin, urlsplit

from minidock import __version__
from minidock.errors import MiniDockError
from minidock.registry.settings import Settings, proxy_for

ATTEMPTS, LONGEST_WAIT = 6, 60.0  # per request; seconds between two
TIMEOUT = 30.0  # seconds without a byte
BUSY = {408, 429, 500, 502, 503, 504}
SENT_ON = {301, 302, 303, 307, 308}


# %% How it may end without an answer
class Cancel(Event):
    """Set when nobody waits for the result any more."""

    def check(self) -> None:
        """Raises once it is set."""
        if self.is_set():
            raise Cancelled("context canceled")


class Cancelled(MiniDockError):
    """The client has gone."""


class Unreachable(MiniDockError):
    """No answer: the name, the line, the certificate; ``plain``: it answered, but without TLS."""

    plain = False


# %% TLS
def tls(host: str, settings: Settings) -> ssl.SSLContext:
    """Whom to trust as ``host``, and who we are to it: ``certs.d/<host>/`` has ``*.crt``, ``*.cert``."""
    insecure = settings.is_insecure(
        host
    )  # then nobody is asked: reading all the world's takes 20 ms
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if insecure else ssl.create_default_context()
    for place in settings.certificates:
        for path in sorted((place / host).glob("*.crt")):
            context.load_verify_locations(path)
        for path in sorted((place / host).glob("*.cert")):
            context.load_cert_chain(path, path.with_suffix(".key"))
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception, host: str) -> tuple[str, bool]:
    """What is wrong with the line, in the words of Go's library, which users search for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        name = error.verify_message
        unknown = "unable to get" in name or "self-signed" in name or "self signed" in name
        return f"x509: {'certificate signed by unknown authority' if unknown else name}", False
    if isinstance(error, ssl.SSLError):
        plain = error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
        words = "http: server gave HTTP response to HTTPS client"
        return (words if plain else f"tls: {error.reason or error}"), plain
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host.partition(':')[0]}: no such host", False
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {host}: connect: connection refused", False
    if isinstance(error, TimeoutError):
        return f"dial tcp {host}: i/o timeout", False
    if isinstance(error, http.client.RemoteDisconnected):
        return "EOF", False
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"dial tcp {host}: connect: {os.strerror(error.errno).lower()}", False
    return str(error) or type(error).__name__, False


# %% An answer
class Answer:
    """The head of a response; the body is read from it. Leave it by ``with``."""

    def __init__(
        self,
        transport: "Transport",
        line: "http.client.HTTPConnection",
        response: http.client.HTTPResponse,
        url: str,
    ) -> None:
        self._transport, self._line, self._response = transport, line, response
        self.url = url
        self.status = response.status

    def header(self, name: str) -> str:
        """A header; empty if there is none."""
        return self._response.headers.get(name) or ""

    def headers(self, name: str) -> list[str]:
        """All headers of one name."""
        return self._response.headers.get_all(name) or []

    def piece(self, size: int) -> bytes:
        """What has come of the body. Nothing at its end, *or where the line broke*: count it."""
        return self._read(self._response.read1, size)

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            return read(size)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f'Get "{self.url}": {error or type(error).__name__}') from error

    def small(self, limit: int = 4 << 20) -> bytes:
        """The whole body, which must not be larger than ``limit``."""
        data = self._read(self._response.read, limit + 1)
        if len(data) <= limit and self._response.length:
            raise Unreachable(f'Get "{self.url}": unexpected EOF')
        if len(data) > limit:
            raise MiniDockError(f"{self.url}: the answer is larger than {limit} bytes")
        return data

    def close(self) -> None:
        """The line goes back into the pool if everything was read from it."""
        whole = self._response.isclosed() or self._response.length == 0
        self._response.close()
        if whole and not self._response.will_close:
            self._transport.keep(self.url, self._line)
        else:
            self._line.close()

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# %% One request
Body = bytes | Iterable[bytes] | None


class Transport:
    """Connections to registries, kept open as long as they are of use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = Lock()

    def once(self, method: str, url: str, headers: dict[str, str], body: Body = None) -> Answer:
        """One request, one answer, whatever it is. Raises :class:`Unreachable`."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "http" and proxy_for("http", parts.netloc):
            target = url  # a proxy wants to know the whole
        fields = {"User-Agent": f"minidock/{__version__}", **headers}
        line, used = self._line(parts.scheme, parts.netloc)
        try:
            chunked = body is not None and not isinstance(body, bytes)
            chunked = chunked and "Content-Length" not in headers
            with suppress(BrokenPipeError, ConnectionResetError):  # it may say why it hung up
                line.request(method, target, body, fields, encode_chunked=chunked)
            return Answer(self, line, line.getresponse(), url)
        except (OSError, http.client.HTTPException) as error:
            line.close()
            if used and not isinstance(body, Iterator):  # it was closed while nobody looked
                return self.once(method, url, headers, body)
            words, plain = _reason(error, parts.netloc)
            unreachable = Unreachable(f'{method.capitalize()} "{url}": {words}')
            unreachable.plain = plain
            raise unreachable from error
        except BaseException:
            line.close()
            raise

    def _line(self, scheme: str, host: str) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            idle = self._idle.get((scheme, host))
            if idle:
                return idle.pop(), True
        proxy = proxy_for(scheme, host)
        if scheme == "http":
            return http.client.HTTPConnection(proxy or host, timeout=TIMEOUT), False
        line = http.client.HTTPSConnection(proxy or host, timeout=TIMEOUT, context=self._tls(host))
        if proxy:
            line.set_tunnel(host)
        return line, False

    def _tls(self, host: str) -> ssl.SSLContext:
        """Reading all the world's certificates takes 15 ms: once."""
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = tls(host, self.settings)
            return self._contexts[host]

    def keep(self, url: str, line: http.client.HTTPConnection) -> None:
        """Keep a line for the next request."""
        parts = urlsplit(url)
        with self._lock:
            self._idle.setdefault((parts.scheme, parts.netloc), []).append(line)

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            for line in (one for idle in self._idle.values() for one in idle):
                line.close()
            self._idle.clear()

    # %% Redirects and retries
    def send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | None = None,
        cancel: Cancel | None = None,
        attempts: int = ATTEMPTS,
    ) -> Answer:
        """A request that may be repeated: sent on where the server says, again when it was busy."""
        for attempt in range(1, attempts + 1):
            if cancel is not None:
                cancel.check()
            try:
                answer = self._follow(method, url, headers, body)
            except Unreachable as error:
                if attempt == attempts or not _may_pass(error):
                    raise
                pause(backoff(attempt), cancel)
                continue
            if answer.status not in BUSY or attempt == attempts:
                return answer
            with answer:
                answer.small()
                pause(_retry_after(answer.header("Retry-After"), attempt), cancel)
        raise AssertionError("the last attempt has returned or raised")

    def _follow(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        for _ in range(10):
            answer = self.once(method, url, headers, body)
            if answer.status not in SENT_ON or method not in ("GET", "HEAD"):
                return answer
            with answer:
                answer.small()
                there = urljoin(url, answer.header("Location"))
            headers = headers if same_host(url, there) else without_password(headers)
            url = there
        raise MiniDockError(f'{method.capitalize()} "{url}": stopped after 10 redirects')


def same_host(one: str, other: str) -> bool:
    """Whether what one may hear the other may: same scheme, same host, same port."""
    return urlsplit(one)[:2] == urlsplit(other)[:2]


def without_password(headers: dict[str, str]) -> dict[str, str]:
    """The headers that anybody may see."""
    return {name: value for name, value in headers.items() if name.lower() != "authorization"}


# %% Patience
def backoff(attempt: int) -> float:
    """Seconds: 0.25, 0.5, 1, 2 …, spread, so that not everybody comes back at once."""
    return min(0.25 * 2.0 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)


def _retry_after(text: str, attempt: int) -> float:
    """What the server asks for: seconds, or a date."""
    if text.isdigit():
        return min(float(text), LONGEST_WAIT)
    with suppress(TypeError, ValueError):
        return max(0.0, min(parsedate_to_datetime(text).timestamp() - time.time(), LONGEST_WAIT))
    return backoff(attempt)


def _may_pass(error: Unreachable) -> bool:
    """Not a certificate, not a name that does not exist."""
    return not isinstance(error.__cause__, ssl.SSLError | socket.gaierror)


def pause(seconds: float, cancel: Cancel | None) -> None:
    """Wait, unless nobody waits for us."""
    if cancel is None:
        time.sleep(seconds)
    elif cancel.wait(seconds):
        cancel.check()
