"""What the two halves of the runtime say to each other.

A child that has not yet executed its program cannot raise an exception in
its parent, nor hand it a file descriptor by returning it. So there is a
socket pair between them, and on it one small JSON object per message:
records of steps, a terminal, "I am ready", "go on", an error. SEQPACKET
keeps the messages apart, and close-on-exec makes the end of the stream mean
"the program runs".

The trap: an error must arrive as the same kind of error, or the command
line could not tell "not found" (127) from "not executable" (126).

**Interface:** :class:`Channel`, :func:`pair`.

**See:** unix(7), SCM_RIGHTS; execve(2) on close-on-exec.
"""

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from minidock import errors
from minidock.errors import MiniDockError, Unavailable

LARGEST_MESSAGE = 64 * 1024


# %% The channel
class Channel:
    """One end: JSON objects, each with file descriptors if need be."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message; raises :class:`OSError` when the other end is gone."""
        socket.send_fds(self.socket, [json.dumps(message).encode()], list(fds))

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and its descriptors; ``None`` when the other end has closed."""
        data, fds, _, _ = socket.recv_fds(
            self.socket, LARGEST_MESSAGE, 64, flags=socket.MSG_CMSG_CLOEXEC
        )
        return (json.loads(data) if data else None), list(fds)

    def fileno(self) -> int:
        """For select(2) and its like."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self.socket.close()


def pair() -> tuple[Channel, Channel]:
    """Two connected ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)


# %% Errors that cross it
def describe(error: BaseException) -> dict[str, Any]:
    """``error`` as a message."""
    if isinstance(error, OSError):
        return {"error": "OSError", "message": str(error), "errno": error.errno}
    kinds = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    name = next(kinds, type(error).__name__)
    return {"error": name, "message": str(error) or name}


def rebuild(message: dict[str, Any]) -> Exception:
    """The error that :func:`describe` described, of the same kind."""
    text = str(message["message"])
    if message["error"] == "OSError":
        number = message.get("errno")
        return _WordedOSError(number, text) if number else OSError(text)
    kind = getattr(errors, str(message["error"]), None)
    if isinstance(kind, type) and issubclass(kind, MiniDockError):
        return kind(text)
    return Unavailable(f"{message['error']}: {text}")


class _WordedOSError(OSError):
    """An OSError whose text is the one it had in the other process."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, os.strerror(number))
        self.text = text

    def __str__(self) -> str:
        return self.text
