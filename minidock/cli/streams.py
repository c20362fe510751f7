"""Between a terminal and a container.

A hijacked connection is a raw stream. With a terminal in the container it
is just bytes both ways, and *our* terminal must be put into raw mode, so
that Ctrl-C goes to the program instead of to us; without one, output comes
in pieces, each behind eight bytes that say whether it is stdout or stderr.

The traps. The end of our input is told by closing just that half of the
connection. And Ctrl-P Ctrl-Q leaves without stopping the program.

**Interface:** :func:`connect`, :func:`detach_keys`, :func:`window_size`.

**See:** tty_ioctl(4), shutdown(2); Engine API, "Stream format".
"""

from __future__ import annotations

import os
import select

from minidock.cli.flags import PlainError
from minidock.lean import SHUT_WR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minidock.lean import socket

DETACH = "ctrl-p,ctrl-q"
PIECE = 64 * 1024


# %% How large our window is
def window_size(fd: int) -> tuple[int, int]:
    """Height and width; zeros where there is no terminal."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return size.lines, size.columns


# %% Output that is in pieces
class Demultiplexer:
    """Sorts framed output to stdout and stderr."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._buffer += data
        while len(self._buffer) >= 8:
            size = int.from_bytes(self._buffer[4:8], "big")
            if len(self._buffer) < 8 + size:
                return
            write_all(2 if self._buffer[0] == 2 else 1, self._buffer[8 : 8 + size])
            self._buffer = self._buffer[8 + size :]


def write_all(fd: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(fd, data) :]


# %% Leaving without stopping
def detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` as the bytes that a terminal sends for it; empty means these."""
    keys = b""
    for word in (text or DETACH).split(","):
        letter = word.removeprefix("ctrl-")
        if word != letter and len(letter) == 1 and letter in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            keys += bytes([ord(letter.upper()) & 0x1F])
        elif len(word) == 1:
            keys += word.encode()
        else:
            raise PlainError(f"Invalid detach keys ({text}) provided")
    return keys


class Escape:
    """Looks for the keys in what is typed, and holds back what may be the beginning of them."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What is to be sent now, and whether the keys were pressed (the rest is not sent then)."""
        data = self._held + typed
        at = data.find(self._keys)
        if at >= 0:
            return data[:at], True
        keep = next(
            (n for n in range(len(self._keys) - 1, 0, -1) if data.endswith(self._keys[:n])), 0
        )
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep], False

    def rest(self) -> bytes:
        """What was held back, when nothing more will be typed."""
        return self._held


# %% Both ways
def connect(
    connection: socket,
    early: bytes,
    terminal: bool,
    stdin: bool,
    resized: Callable[[], None],
    keys: bytes,
) -> bool:
    """:func:`copy`, with our own terminal in raw mode where that is called for."""
    if not (terminal and stdin):
        return copy(connection, early, terminal, stdin)
    from minidock.cli.window import raw_terminal, watching_window

    with raw_terminal(0), watching_window(resized) as woken:
        return copy(connection, early, terminal, stdin, woken, resized, keys)


def copy(
    connection: socket,
    early: bytes,
    terminal: bool,
    stdin: bool,
    woken: Sequence[int] = (),
    resized: Callable[[], None] = lambda: None,
    keys: bytes = b"",
) -> bool:
    """Copy until the container's side ends; False if the user has detached.

    ``woken`` is readable when ``resized`` must be called.
    """
    show = (lambda data: write_all(1, data)) if terminal else Demultiplexer().feed
    if early:
        show(early)
    sources: list[int] = [connection.fileno(), *([0] if stdin else [])]
    if not stdin:
        connection.shutdown(SHUT_WR)
    escape = Escape(keys)
    while True:
        ready, _, _ = select.select([*sources, *woken], [], [])
        if woken and woken[0] in ready:
            os.read(woken[0], 4096)
            resized()
        if connection.fileno() in ready:
            data = connection.recv(PIECE)
            if not data:
                return True
            show(data)
        if 0 in ready:
            typed = os.read(0, PIECE)
            if keys and typed:
                typed, pressed = escape.feed(typed)
                if typed:
                    _give(connection, typed)
                if pressed:
                    return False
            elif not _give(connection, escape.rest() + typed) or not typed:
                sources.remove(0)


def _give(connection: socket, data: bytes) -> bool:
    """Send input; at its end close that half. False when no more is to be sent."""
    try:
        if data:
            connection.sendall(data)
            return True
        connection.shutdown(SHUT_WR)
    except (BrokenPipeError, ConnectionResetError, OSError):
        return False
    return False
