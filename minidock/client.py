"""The client's end of the socket: HTTP, as little of it as will do.

The standard library's ``http.client`` costs 23 ms to import, more than the
rest of a short command; here is what the Engine API needs of HTTP, on one
connection that is used again. Where no daemon answers, one is started in
the background, and the command goes on as if it had been there.

The traps. Two commands that start at once must not start two daemons: the
daemon's own lock lets one win, and the loser's client simply connects to
it. And a socket that belongs to somebody else may be anybody's program: we
speak only to root's.

**Interface:** :class:`Client`.

**See:** RFC 9112; unix(7); Engine API, "Hijacking".
"""

from __future__ import annotations

import os
import stat
import sys
import time

from minidock import errors
from minidock.errors import Forbidden, MiniDockError, Unavailable
from minidock.lean import AF_UNIX, dumps, loads, socket

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from collections.abc import Iterator
    from typing import Any, BinaryIO

VERSION = "v1.47"
PIECE = 256 * 1024

CUT_OFF = "the MiniDock daemon hung up in the middle of its answer (see its daemon.log)"

KINDS = {
    304: errors.NotModified,
    400: errors.InvalidParameter,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    501: errors.NotSupported,
}


# %% Where the daemon is
def socket_path() -> str:
    """``$MINIDOCK_HOST`` (``unix://…``), or the socket below ``$MINIDOCK_RUN``."""
    host = os.environ.get("MINIDOCK_HOST")
    if host:
        if not host.startswith("unix://"):
            raise errors.InvalidParameter(f"MINIDOCK_HOST={host}: only unix:// is understood")
        return host[len("unix://") :]
    return f"{os.environ.get('MINIDOCK_RUN', '/run/minidock')}/minidock.sock"


def connect(start: bool = True) -> socket:
    """A connection to the daemon, which is started if there is none."""
    path = socket_path()
    try:
        return _connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        if not start or os.environ.get("MINIDOCK_HOST"):
            raise Unavailable(f"Cannot connect to the MiniDock daemon at unix://{path}") from None
    except PermissionError:
        raise Forbidden(
            f"permission denied while trying to connect to the MiniDock daemon at unix://{path}:"
            " run it as root"
        ) from None
    start_daemon()
    return _connect(path)


def _connect(path: str) -> socket:
    status = os.stat(path)
    if stat.S_ISSOCK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
        raise Forbidden(f"{path} belongs to user {status.st_uid}, not to root: not trusted")
    connection = socket(AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


# %% Starting the daemon
def start_daemon() -> None:
    """Start it in the background, in a session of its own, and wait until it says ``ready``."""
    if os.geteuid() != 0:
        raise Forbidden("no MiniDock daemon is running, and starting one needs root: use sudo")
    run = os.environ.get("MINIDOCK_RUN", "/run/minidock")
    os.makedirs(run, mode=0o711, exist_ok=True)
    reads, writes = os.pipe()
    if os.fork() == 0:
        _become_daemon(run, writes)
    os.close(writes)
    with open(reads) as pipe:
        line = pipe.readline().strip()
    if line == "ready":
        return
    if "already running" in line:  # another command was quicker; it will answer in a moment
        for _ in range(100):
            if os.path.exists(socket_path()):
                return
            time.sleep(0.05)
    raise Unavailable(f"the MiniDock daemon did not start: {line or f'see {run}/daemon.log'}")


def _become_daemon(run: str, writes: int) -> None:
    """In the child: let go of the terminal and execute the daemon."""
    os.setsid()
    log = os.open(f"{run}/daemon.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.set_inheritable(writes, True)
    # -P, or the daemon would be whatever the current directory calls minidock.
    command = [sys.executable, "-P", "-m", "minidock", "daemon", "--ready-fd", str(writes)]
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": package})


# %% Requests
UNRESERVED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~"


def quote(text: str) -> str:
    """Percent-encoding, without the 5 ms that urllib.parse takes to import."""
    return "".join(c if c in UNRESERVED else "".join(f"%{b:02X}" for b in c.encode()) for c in text)


class Answer:
    """The head of a response; the body comes by :meth:`pieces`."""

    def __init__(
        self, status: int, headers: dict[str, str], reader: BinaryIO, connection: socket
    ) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader
        self._connection = connection  # which would be closed if nobody had it any more

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes."""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := self._next_size():
                data = self._reader.read(size)
                if len(data) < size:
                    raise Unavailable(CUT_OFF)
                yield data
                self._reader.readline()
            self._reader.readline()
            return
        left = int(self.headers.get("content-length", 0))
        while left:
            data = self._reader.read(min(left, PIECE))
            if not data:
                raise Unavailable(CUT_OFF)
            left -= len(data)
            yield data

    def _next_size(self) -> int:
        """Of a chunk; 0 is the end that was meant, while nothing at all is one that was not."""
        line = self._reader.readline()
        if not line:
            raise Unavailable(CUT_OFF)
        return int(line.split(b";")[0], 16)

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces())

    def lines(self) -> Iterator[bytes]:
        """The body line by line, as it comes."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line for line in whole if line.strip())
        if rest.strip():
            yield rest


class Client:
    """A connection to the daemon; ``headers`` go with every request."""

    def __init__(self, connection: socket | None = None) -> None:
        self.headers: dict[str, str] = {}
        self._connection = connection
        self._reader: Any = None

    @classmethod
    def from_environment(cls) -> Client:
        """Connects when it is first needed."""
        return cls()

    def another(self) -> Client:
        """A second connection, for what blocks; same headers."""
        other = Client()
        other.headers = self.headers
        return other

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._reader.close()
            self._connection.close()
            self._connection = None

    def _socket(self) -> socket:
        if self._connection is None:
            self._connection = connect()
        if self._reader is None:
            # Not makefile(), which is in the part of the module that we do without.
            fd = self._connection.fileno()
            self._reader = open(fd, "rb", buffering=8192, closefd=False)  # noqa: SIM115
        return self._connection

    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        upload: BinaryIO | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the head of its answer. Raises the error that the daemon names."""
        connection = self._socket()
        data = b"" if body is None else dumps(body).encode()
        fields = {"Host": "minidock", **self.headers, **(headers or {})}
        if body is not None:
            fields["Content-Type"] = "application/json"
        if upload is not None:
            fields["Transfer-Encoding"] = "chunked"
            fields["Content-Type"] = "application/x-tar"
        elif method == "POST" or data:
            fields["Content-Length"] = str(len(data))
        lines = [f"{method} /{VERSION}{path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        if upload is not None:
            self._upload(connection, upload)
        return self._answer()

    def _upload(self, connection: socket, upload: BinaryIO) -> None:
        try:
            while data := upload.read(PIECE):
                connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))
            connection.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # it has refused what came so far, and says why

    def _answer(self, without_body: bool = False) -> Answer:
        line = self._reader.readline()
        if not line:
            raise Unavailable("the MiniDock daemon hung up (see its daemon.log)")
        status = int(line.split()[1])
        headers = {}
        while (line := self._reader.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        assert self._connection is not None
        answer = Answer(status, headers, self._reader, self._connection)
        if status >= 400 or status == 304:
            raise error_of(status, b"" if without_body else answer.read())
        return answer

    def head(self, path: str) -> Answer:
        """HEAD: the same head as for GET, and no body."""
        connection = self._socket()
        connection.sendall(f"HEAD /{VERSION}{path} HTTP/1.1\r\nHost: minidock\r\n\r\n".encode())
        return self._answer(without_body=True)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request whose answer is JSON, or nothing."""
        data = self.open(method, path, body).read()
        return loads(data) if data.strip() and data[:1] in b'{["tfn0123456789' else None

    # %% Streams
    def hijack(self, path: str, body: Any = None) -> tuple[socket, bytes]:
        """Turn the connection into a raw stream; returns it, and bytes that came early."""
        self.open("POST", path, body, headers={"Upgrade": "tcp", "Connection": "Upgrade"})
        connection = self._connection
        assert connection is not None
        # The head and the first bytes of the stream may have come in one piece: then they are in
        # the reader's buffer, and the socket has nothing.
        connection.setblocking(False)
        early = self._reader.peek(1)
        early = self._reader.read1(len(early)) if early else b""
        connection.setblocking(True)
        self._connection = None
        return connection, early

    def load(self, path: str | os.PathLike[str]) -> None:
        """Load the images of the archive at ``path``; what the daemon says is printed."""
        with open(path, "rb") as file:
            print_messages(self.open("POST", "/images/load?quiet=1", upload=file))


def error_of(status: int, data: bytes) -> MiniDockError:
    """The error that an answer stands for."""
    try:
        text = str(loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        text = data.decode(errors="replace").strip()
    error = KINDS.get(status, Unavailable)(text)
    error.from_daemon = True
    return error


def print_messages(answer: Answer) -> None:
    """Print a stream of JSON messages. Raises the error that is among them."""
    for line in answer.lines():
        message = loads(line)
        if "error" in message:
            error = Unavailable(message["error"])
            error.from_daemon = True
            raise error
        text = message.get("stream") or message.get("status", "")
        print(text.rstrip("\n"))
