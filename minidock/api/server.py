"""HTTP, as much of it as the Engine API needs, over a unix socket.

The standard library's ``http.server`` parses headers with the email package
and builds a class per request; a container engine answers small JSON
objects, streams, and *hijacks*: a connection that begins as HTTP and goes
on as a raw stream between a terminal and a program. So here is a small
server: one thread per connection, requests one after the other on it.

The traps. Bytes of the raw stream may arrive in the same packet as the
request's head, and belong to the program, not to us. A handler that streams
must send its head before it has anything to say (``docker wait`` relies on
it). And a body has to be read to its end before the next request, or the
rest of it would be taken for one.

**Interface:** :class:`Server`, :class:`Request`, :class:`Response`.

**See:** RFC 9112 (HTTP/1.1); Engine API, "ContainerAttach", "Hijacking".
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import RawIOBase
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, unquote

from minidock.errors import InvalidParameter

LARGEST_HEAD = 64 * 1024
LARGEST_JSON = 16 * 1024 * 1024
PIECE = 256 * 1024


# %% What a handler gets
@dataclass(slots=True)
class Request:
    """One request; header names are in lower case, ``query`` keeps the last of equal names."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: "Body"
    connection: "Connection"
    pairs: Sequence[tuple[str, str]] = ()

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
    """A status and one of: a JSON value, text, or pieces to stream. ``taken``: the connection is gone."""

    status: int = 200
    json: Any = None
    text: str | None = None
    pieces: Iterator[bytes] | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    taken: bool = False


REASONS = {
    101: "UPGRADED",
    200: "OK",
    201: "Created",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


# %% Bodies
class Body(RawIOBase):
    """A request's body as a file: so many bytes, or chunk by chunk."""

    def __init__(self, source: BinaryIO, length: int, chunked: bool) -> None:
        super().__init__()
        self._source = source
        self._left = length
        self._chunked = chunked
        self._over = not chunked and length == 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """At most as many bytes as fit; 0 at the end. A truncated body is an error."""
        if self._over:
            return 0
        if self._chunked and self._left == 0 and not self._next_chunk():
            return 0
        data = self._source.read1(min(len(buffer), self._left))  # type: ignore[attr-defined]
        if not data:
            raise InvalidParameter("the request's body ends before its announced length")
        buffer[: len(data)] = data
        self._left -= len(data)
        if self._left == 0:
            if self._chunked:
                self._source.readline(8)
            else:
                self._over = True
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """``size`` bytes, or fewer only at the end."""
        pieces, total = [], 0
        while size is None or size < 0 or total < size:
            wanted = PIECE if size is None or size < 0 else min(PIECE, size - total)
            buffer = bytearray(wanted)
            count = self.readinto(buffer)
            if count == 0:
                break
            pieces.append(bytes(buffer[:count]))
            total += count
        return b"".join(pieces)

    def _next_chunk(self) -> bool:
        line = self._source.readline(64)
        try:
            self._left = int(line.split(b";")[0], 16)
        except ValueError:
            raise InvalidParameter(f"bad chunk length in the request's body: {line!r}") from None
        if self._left == 0:
            while self._source.readline(LARGEST_HEAD) not in (b"\r\n", b"\n", b""):
                pass
            self._over = True
        return not self._over

    def drain(self) -> None:
        """Read what the handler left."""
        while self.read(PIECE):
            pass


# %% A connection
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

    def serve(self) -> None:
        """The thread of this connection."""
        try:
            while self._one():
                pass
        except (OSError, ValueError, InvalidParameter):
            pass  # the client has gone, or talks nonsense: nobody is there to be told
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
            self._send(Response(400, {"message": str(error)}), "GET", close=True)
            return False
        self._head_sent = False
        response = self._handler(request)
        if response.taken:
            return False
        close = request.headers.get("connection", "").lower() == "close"
        if not self._head_sent:
            self._send(response, request.method, close)
        request.body.drain()
        return not close

    def _parse(self, line: bytes) -> Request:
        try:
            method, target, version = line.decode("latin-1").split()
        except ValueError:
            raise InvalidParameter(f"not an HTTP request: {line[:80]!r}") from None
        headers: dict[str, str] = {}
        size = 0
        while (line := self._reader.readline(LARGEST_HEAD)) not in (b"\r\n", b"\n"):
            size += len(line)
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or size > LARGEST_HEAD:
                raise InvalidParameter("bad or too many headers")
            headers[name.strip().lower()] = value.strip()
        length = headers.get("content-length", "0")
        if not length.isdigit():
            raise InvalidParameter(f"bad Content-Length: {length}")
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if headers.get("expect", "").lower() == "100-continue":
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        path, _, query = target.partition("?")
        body = Body(cast(BinaryIO, self._reader), 0 if chunked else int(length), chunked)
        pairs = parse_qsl(query, keep_blank_values=True)
        return Request(method, unquote(path), dict(pairs), headers, body, self, pairs)

    # %% Sending
    def _send(self, response: Response, method: str, close: bool) -> None:
        if response.pieces is not None:
            self._stream(response)
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
class Server:
    """Listens on a unix socket; a thread for each connection."""

    def __init__(self, listener: socket.socket, handler: Handler, headers: dict[str, str]) -> None:
        self._listener = listener
        self._handler = handler
        self._headers = headers

    def serve_forever(self) -> None:
        """Accept until the listener is closed."""
        threading.stack_size(512 * 1024)
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(peer, self._handler, self._headers)
            threading.Thread(target=connection.serve, daemon=True).start()
