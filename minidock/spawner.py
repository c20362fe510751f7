"""The spawner: one warm process that forks monitors.

Starting a Python interpreter for every container would cost more than all
the rest of ``run``; forking the daemon would be quick, but the daemon has
threads, and a child of a threaded process has only one of them and all of
their locks. So the daemon starts one process that never has a thread, in
which everything a monitor needs is already imported, and asks *it* to fork.

A fork shares its memory with its parent until one of them writes. Python
writes into every object that the collector looks at, so the collector is
told to leave alone what exists (``gc.freeze``), and a hundred monitors cost
little more than one.

The trap: the interpreter that runs the first steps inside a container can
be seen from in there, as ``/proc/1/exe``, and a program that tricks it into
executing ``/proc/self/exe`` could open it for writing once it is idle: it is
the host's interpreter (CVE-2019-5736). So the spawner runs from a read-only
mount of the interpreter which nobody can write through.

**Interface:** :class:`Spawner`; as a program, ``python -m minidock.spawner FD``.

**See:** fork(2), gc.freeze; open_tree(2); runc's commit 0a8e411 for the CVE.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from typing import Any

from minidock.linux.mountapi import readonly_clone
from minidock.runtime.sync import Channel, pair

ROOM_FOR_TITLE = "-" * 64


# %% In the daemon
class Spawner:
    """The daemon's end: starts the spawner, and starts it again should it have died."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._channel: Channel | None = None
        self.pid = 0

    def open(self) -> None:
        """Start the process."""
        ours, theirs = pair()
        interpreter = readonly_clone(sys.executable)
        os.set_inheritable(theirs.fileno(), True)
        arguments = [
            sys.executable,
            "-P",
            "-m",
            "minidock.spawner",
            str(theirs.fileno()),
            ROOM_FOR_TITLE,
        ]
        try:
            self.pid = os.posix_spawn(
                f"/proc/self/fd/{interpreter}",
                arguments,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
                setsigdef=[],
            )
        finally:
            theirs.close()
            os.close(interpreter)
        self._channel = ours

    def spawn(self, request: dict[str, Any], fds: Sequence[int]) -> None:
        """Fork a monitor for ``request`` (see :func:`minidock.monitor.main`)."""
        with self._lock:
            if self._channel is None:
                self.open()
            assert self._channel is not None
            try:
                self._channel.send(request, fds)
            except (BrokenPipeError, ConnectionResetError):
                self._close()
                self.open()
                self._channel.send(request, fds)

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)

    def close(self) -> None:
        """End the process: it goes when its channel closes. Monitors stay."""
        with self._lock:
            self._close()


# %% The process itself
def main(fd: int) -> None:
    """Fork a monitor for each request that comes, until the daemon is gone."""
    import gc
    import signal
    import socket

    from minidock import capabilities, cgroups, monitor, seccomp
    from minidock.linux.syscalls import set_process_name, set_process_title

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries our children
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    set_process_name("minidock-spawn")
    set_process_title("minidock-spawner")
    requests = Channel(socket.socket(fileno=fd))
    os.set_inheritable(fd, False)
    cgroups.open("/")  # looks at the host once, for all monitors
    seccomp.warm(capabilities.DEFAULT)
    gc.collect()
    gc.freeze()
    while True:
        request, fds = requests.receive()
        if request is None:
            return
        if os.fork() == 0:
            requests.close()
            monitor.main(request, fds)
        for received in fds:
            os.close(received)


if __name__ == "__main__":
    main(int(sys.argv[1]))
