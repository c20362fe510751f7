"""The server's end of a socket: HTTP/1.1, for the Engine API and for the registry.

The standard library's ``http.server`` parses headers with the email package
and builds a class per request; a container engine answers small JSON
objects, streams, and *hijacks*: a connection that begins as HTTP and goes
on as a raw stream between a terminal and a program. A registry answers
files. So here is a small server: one thread per connection, requests one
after the other on it, over a unix socket, TCP or TLS.

The traps. Bytes of a raw stream may arrive in the same packet as the
request's head, and belong to the program, not to us. A handler that streams
must send its head before it has anything to say (``docker wait`` relies on
it). A body has to be read to its end before the next request, or the rest
of it would be taken for one; who has announced it by ``Expect`` has not
sent it yet, and will not if we refuse. And two lengths for one body are how
requests are smuggled past a proxy: refused.

**Interface:** :class:`Server`, :class:`Request`, :class:`Response`,
:func:`stop`, :func:`pattern`.

**See:** RFC 9112 (HTTP/1.1), RFC 9110 section 10.1.1 ("Expect"); Engine API,
"ContainerAttach", "Hijacking"; sendfile(2).
"""

import errno
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, unquote

from minidock.body import LARGEST_HEAD, Body
from minidock.errors import InvalidParameter, MiniDockError

LARGEST_JSON = 16 * 1024 * 1024


# %% What a handler gets
@dataclass(slots=True)
class Request:
    """One request; header names are in lower case, ``query`` keeps the last of equal names."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Body
    connection: "Connection"
    pairs: Sequence[tuple[str, str]] = ()  # the query, equal names and all

    def values(self, name: str) -> list[str]:
        """All values of the query called ``name``."""
        return [value for key, value in self.pairs if key == name]

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty object."""
        data = self.body.read(LARGEST_JSON + 1)
        if len(data) > LARGEST_JSON:
            raise InvalidParameter("the request's body is too large")
        if not data.strip():
            return {}
        try:
            value = json.loads(data)
        except ValueError as error:
            raise InvalidParameter(f"the request's body is not JSON: {error}") from None
        if value is None:  # how Go writes that there is nothing
            return {}
        if not isinstance(value, dict):
            raise InvalidParameter("the request's body is not a JSON object")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value of the query: as Docker, all but 0, no, false and nothing is true."""
        value = self.query.get(name)
        return default if value is None else value.lower() not in ("", "0", "no", "false", "none")

    def number(self, name: str, default: int | None = None) -> int | None:
        """An integer of the query."""
        value = self.query.get(name)
        if value is None or value == "":
            return default
        try:
            return int(value)
        except ValueError:
            raise InvalidParameter(f'invalid value "{value}" for {name}: want an integer') from None

    def filters(self) -> dict[str, list[str]]:
        """``filters``: JSON, either name to list or, from newer clients, name to set."""
        text = self.query.get("filters")
        if not text:
            return {}
        try:
            value = json.loads(text)
            return {name: list(entries) for name, entries in value.items()}
        except (ValueError, AttributeError, TypeError):
            raise InvalidParameter(f"invalid filters: {text}") from None


# %% What a handler gives
@dataclass(slots=True)
class Response:
    """A status and one of: a JSON value, text, pieces to stream, or (a part of) a file.

    The file is closed when it has been sent. ``taken``: the connection is gone.
    """

    status: int = 200
    json: Any = None
    text: str | None = None
    pieces: Iterator[bytes] | None = None
    file: BinaryIO | None = None
    part: range = range(0)  # which bytes of the file
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    taken: bool = False


REASONS = {
    101: "UPGRADED",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


# %% A connection
def pattern(path: str) -> "re.Pattern[str]":
    """``{name}`` in a path is one part of it, ``{name*}`` may have slashes (images do)."""
    text = re.sub(r"\{\w+\*\}", "(.+)", path)
    return re.compile(re.sub(r"\{\w+\}", "([^/]+)", text) + r"\Z")


Route = tuple[str, str, Callable[..., Response]]  # method, path with holes, handler

Handler = Callable[[Request], Response]


class Connection:
    """Requests one after the other, until somebody closes or takes over."""

    def __init__(self, peer: socket.socket, handler: Handler, headers: dict[str, str]) -> None:
        self.socket = peer
        self._handler = handler
        self._headers = headers
        self._reader = peer.makefile("rb")
        self._head_sent = False

    @property
    def peer(self) -> str:
        """The address of who is at the other end; ``-`` when that is a unix socket, or gone."""
        try:
            return str(self.socket.getpeername()[0])
        except (OSError, IndexError):
            return "-"

    def serve(self) -> None:
        """The thread of this connection."""
        try:
            while self._one():
                pass
        except (OSError, ValueError, InvalidParameter):
            pass  # the client has gone, or talks nonsense: nobody is there to be told
        except MiniDockError as error:  # within a stream: it is too late for a status
            print(f"an answer was cut off: {error}", file=sys.stderr, flush=True)
        finally:
            self._reader.close()
            self.socket.close()

    def _one(self) -> bool:
        """Answer one request; whether another may follow."""
        line = self._reader.readline(LARGEST_HEAD)
        if not line.strip():
            return False
        try:
            request = self._parse(line)
        except InvalidParameter as error:
            self._send(Response(400, text=f"{error}\n", content_type="text/plain"), "GET", True)
            return False
        self._head_sent = False
        response = self._handler(request)
        if response.taken:
            return False
        wish = request.headers.get("connection", "").lower()
        close = wish == "close" or request.body.unasked
        close = close or (b"HTTP/1.0" in line and wish != "keep-alive")
        if not self._head_sent:
            self._send(response, request.method, close)
        return request.body.drain() and not close

    # %% The head of a request
    def _parse(self, line: bytes) -> Request:
        try:
            method, target, version = line.decode("latin-1").split(" ")
        except ValueError:
            raise InvalidParameter(f"not an HTTP request: {line[:80]!r}") from None
        if not version.startswith("HTTP/1."):
            raise InvalidParameter(f"not an HTTP/1 request: {line[:80]!r}")
        headers = self._headers_of_request()
        path, _, query = target.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        body = self._body(headers)
        return Request(method, unquote(path), dict(pairs), headers, body, self, pairs)

    def _headers_of_request(self) -> dict[str, str]:
        """Names in lower case; what comes twice is one list, as RFC 9110 section 5.3 has it."""
        headers: dict[str, str] = {}
        size = 0
        while (line := self._reader.readline(LARGEST_HEAD)) not in (b"\r\n", b"\n"):
            size += len(line)
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name or size > LARGEST_HEAD or set(name) & set(" \t\r\n"):
                raise InvalidParameter("bad or too many headers")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def _body(self, headers: dict[str, str]) -> Body:
        length, coding = headers.get("content-length"), headers.get("transfer-encoding", "").lower()
        if length is not None and (coding or not (length.isascii() and length.isdigit())):
            raise InvalidParameter(f"bad Content-Length: {length[:80]}")
        if coding not in ("", "chunked"):
            raise InvalidParameter(
                f"Transfer-Encoding {coding[:80]} is not understood: use chunked"
            )
        waits = headers.get("expect", "").lower() == "100-continue"
        expected = (
            (lambda: self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")) if waits else None
        )
        return Body(cast(BinaryIO, self._reader), int(length or 0), bool(coding), expected)

    # %% Sending
    def _send(self, response: Response, method: str, close: bool) -> None:
        if response.pieces is not None:
            self._stream(response)
            return
        if response.file is not None:
            self._send_file(response, response.file, method, close)
            return
        data = b""
        if response.json is not None:
            data = json.dumps(response.json).encode() + b"\n"
        elif response.text is not None:
            data = response.text.encode()
        headers = {"Content-Type": response.content_type} if data else {}
        if response.status not in (204, 304):
            headers["Content-Length"] = str(len(data))
        if close:
            headers["Connection"] = "close"
        head = self._head(response.status, {**headers, **response.headers})
        self.socket.sendall(head if method == "HEAD" else head + data)

    def _send_file(self, response: Response, file: BinaryIO, method: str, close: bool) -> None:
        """The kernel copies from the page cache to the socket; under TLS, Python reads and writes."""
        with file:
            headers = {"Content-Type": response.content_type, **response.headers}
            headers["Content-Length"] = str(len(response.part))
            if close:
                headers["Connection"] = "close"
            self.socket.sendall(self._head(response.status, headers))
            if method != "HEAD" and response.part:
                file.seek(response.part.start)  # under TLS, sendfile takes 0 for "where you are"
                self.socket.sendfile(file, response.part.start, len(response.part))

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in {**self._headers, **headers}.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _stream(self, response: Response) -> None:
        """Head first, then each piece as a chunk the moment it is there; ``b""`` asks: still there?"""
        headers = {"Content-Type": response.content_type, "Transfer-Encoding": "chunked"}
        self.socket.sendall(self._head(response.status, {**headers, **response.headers}))
        assert response.pieces is not None
        try:
            for piece in response.pieces:
                if piece:
                    self.socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
                elif self.gone():
                    return
            self.socket.sendall(b"0\r\n\r\n")
        finally:
            close = getattr(response.pieces, "close", None)
            if close is not None:
                close()

    def gone(self) -> bool:
        """Whether the client has closed the connection."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    # %% Hijacking
    def hijack(self, request: Request, content_type: str) -> tuple[socket.socket, bytes]:
        """Turn the connection into a raw stream: its socket, and what came early. No more HTTP."""
        upgrade = request.headers.get("upgrade", "")
        if upgrade:
            head = self._head(
                101, {"Content-Type": content_type, "Connection": "Upgrade", "Upgrade": upgrade}
            )
        else:
            head = self._head(200, {"Content-Type": content_type})
        early = b""
        self.socket.setblocking(False)
        try:
            early = self._reader.peek(1) and self._reader.read1(LARGEST_HEAD) or b""
        except (BlockingIOError, TypeError):
            early = b""
        finally:
            self.socket.setblocking(True)
        self.socket.sendall(head)
        self._head_sent = True
        return socket.socket(fileno=os.dup(self.socket.fileno())), early


# %% The server
def stop(listener: socket.socket) -> None:
    """shutdown(2) wakes the thread that waits in accept(2); close(2) would not."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EINTR}


class Server:
    """Listens on a socket; a thread for each connection.

    ``prepare`` gets each new socket first, in its thread: a TLS handshake
    belongs there, as it must not keep others waiting. With ``most``
    connections open, the next is accepted when one has ended.
    """

    def __init__(
        self,
        listener: socket.socket,
        handler: Handler,
        headers: dict[str, str],
        prepare: Callable[[socket.socket], socket.socket] | None = None,
        most: int = 1024,
    ) -> None:
        self._listener = listener
        self._handler = handler
        self._headers = headers
        self._prepare = prepare
        self._free = threading.BoundedSemaphore(most)

    def serve_forever(self) -> None:
        """Accept until the listener is closed."""
        threading.stack_size(512 * 1024)
        while True:
            self._free.acquire()
            try:
                peer, _ = self._listener.accept()
            except OSError as error:
                self._free.release()
                if error.errno not in PASSING:
                    return
                time.sleep(0.05)
                continue
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            ready = peer if self._prepare is None else self._prepare(peer)
            Connection(ready, self._handler, self._headers).serve()
        except OSError:  # no handshake: somebody speaks plainly to a TLS port, or has gone
            peer.close()
        finally:
            self._free.release()
