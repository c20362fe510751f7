"""What ``create``, ``run`` and ``exec`` have in common: descriptors that come and go.

**Interface:** :func:`check_terminal`, :func:`send_console`,
:func:`write_pid_file`, :func:`listen_fds`, :func:`wait_until_ready`,
:func:`trace`.

The trap is the pid file: whoever waits for it reads it as soon as it is
there, so it must appear with its content in it, by rename(2).

**See:** runc ``docs/terminals.md``; sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket

from minidock import steps
from minidock.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from minidock.cli.runtime import Log
    from minidock.runtime.notify import Readiness


# %% The terminal
def check_terminal(terminal: bool, detach: bool, console_socket: str) -> None:
    """A terminal must end somewhere: here, or at the socket; and a socket is for a terminal."""
    if detach and terminal and not console_socket:
        raise InvalidParameter(
            "cannot allocate tty if runc will detach without setting console socket"
        )
    if (not detach or not terminal) and console_socket:
        raise InvalidParameter("cannot use console socket if runc will not detach or allocate tty")


def send_console(path: str, master: int) -> None:
    """Hand the terminal's master to whoever listens at ``path``; our copy is closed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        try:
            door.connect(path)
        except OSError as error:
            raise OSError(error.errno, f"connect(2) {path}: {error.strerror}") from None
        socket.send_fds(door, [b"/dev/ptmx"], [master])
    os.close(master)


# %% The pid file, and descriptors from the caller
def write_pid_file(path: str, pid: int) -> None:
    """All or nothing."""
    directory, name = os.path.split(os.path.abspath(path))
    temporary = f"{directory}/.{name}"
    with open(temporary, "w") as file:
        file.write(str(pid))
    os.rename(temporary, path)


def listen_fds() -> tuple[int, tuple[str, ...]]:
    """Sockets that systemd opened for us are for the container: how many, and the variables it gets."""
    count, meant = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    if not count.isdigit() or meant != str(os.getpid()):
        return 0, ()
    return int(count), (f"LISTEN_FDS={count}", "LISTEN_PID=1")


def wait_until_ready(readiness: Readiness | None, log: Log, pid: int, main: int) -> None:
    """``NOTIFY_SOCKET``: stay until the container says that it is ready; that nobody hears is no failure."""
    if readiness is None:
        return
    try:
        readiness.forward(pid, main)
    except OSError as error:
        log.warn(f"NOTIFY_SOCKET={os.environ.get('NOTIFY_SOCKET')}: {error.strerror}")


# %% Steps, for --debug
def trace(log: Log) -> AbstractContextManager[None]:
    """With ``--debug`` every step is a line in the log."""
    if not log.is_debug:
        from contextlib import nullcontext

        return _faults() or nullcontext()

    def listener(record: steps.Record) -> None:
        details = " ".join(f"{name}={value}" for name, value in record.details.items())
        words = f"{record.process}: {record.title} [{record.call}] {details}".rstrip()
        log.debug(
            f"{words} ({record.seconds * 1000:.1f} ms){' ' + record.error if record.error else ''}"
        )

    return steps.listening(listener, "runtime", _fault())


def _fault() -> steps.Fault | None:
    """``$MINIDOCK_FAULT``, for the tests: ``fail=TITLE`` or ``kill=TITLE``."""
    how, _, title = os.environ.get("MINIDOCK_FAULT", "").partition("=")
    return steps.Fault(title, how) if title else None


def _faults() -> AbstractContextManager[None] | None:
    fault = _fault()
    return steps.listening(None, "runtime", fault) if fault else None
