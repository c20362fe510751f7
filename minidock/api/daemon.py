"""The daemon: one engine behind one socket.

**Interface:** :func:`serve`.

The traps. Two daemons on one directory would undo each other's work, so
there is a lock, which the kernel gives back whatever happens to us. A
socket that a dead daemon left behind looks like a living one until somebody
tries it; who has the lock may replace it. And whoever started us in the
background waits for a line that says that we listen, or why not.

**See:** flock(2), unix(7), daemon(7).
"""

import fcntl
import grp
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from minidock import __version__
from minidock.api.routes import Router
from minidock.engine import Engine
from minidock.engine.system import API_VERSION
from minidock.errors import Conflict, Forbidden, MiniDockError
from minidock.linux.syscalls import set_process_name
from minidock.paths import Paths
from minidock.registry.settings import Settings
from minidock.server import Server, stop

HEADERS = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"MiniDock/{__version__} (linux)",
}


# %% The daemon's life
def serve(
    paths: Paths,
    ready_fd: int | None = None,
    storage_driver: str | None = None,
    registries: Settings | None = None,
    userns_remap: str = "",
    store_quota: int | None = None,
    storage_options: Sequence[str] = (),
) -> None:
    """Serve until SIGTERM or SIGINT. Writes ``ready`` or one line of error to ``ready_fd``."""
    try:
        lock = _lock(paths)
        engine = Engine(
            paths, storage_driver, registries, userns_remap, store_quota, storage_options
        )
        engine.open()
        listener = _listen(paths)
    except (MiniDockError, OSError) as error:
        _say(ready_fd, str(error))
        raise
    set_process_name("minidockd")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop(listener))
    _say(ready_fd, "ready")
    Server(listener, Router(engine), HEADERS).serve_forever()
    engine.close()
    for path in (paths.socket, paths.run / "minidock.pid"):
        path.unlink(missing_ok=True)
    lock.close()


def _say(ready_fd: int | None, line: str) -> None:
    if ready_fd is not None:
        with suppress(BrokenPipeError), open(ready_fd, "w") as file:
            file.write(line.splitlines()[0] + "\n")


# %% Alone, and reachable
def _lock(paths: Paths) -> IO[str]:
    if os.geteuid() != 0:
        raise Forbidden("the MiniDock daemon needs root: run it with sudo")
    paths.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    lock = open(paths.run / "minidock.lock", "a")  # noqa: SIM115 (held as long as we live)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = (paths.run / "minidock.pid").read_text().strip()
        raise Conflict(f"a MiniDock daemon is already running (pid {pid}) on {paths.run}") from None
    (paths.run / "minidock.pid").write_text(f"{os.getpid()}\n")
    return lock


def _listen(paths: Paths) -> socket.socket:
    """The socket: for root and, where there is one, the group ``docker``."""
    paths.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(paths.socket))
    os.chmod(paths.socket, 0o660)
    with suppress(KeyError):
        os.chown(paths.socket, 0, grp.getgrnam("docker").gr_gid)
    listener.listen(128)
    return listener
