"""``NOTIFY_SOCKET``: a service in a container says that it is ready.

A service manager gives a service the path of a datagram socket, and the
service writes ``READY=1`` into it when it can be used. In a container that
path means nothing. So the container gets a socket of its own, in a directory
of the container's entry that is mounted at ``/run/notify``, and ``start``
stays until the word has come, to pass it on with the pid that it stands for.

The trap: what comes out of a container is not to be trusted. Of all that
can be said in there (other main processes, file descriptors to be kept) only
the one line ``READY=`` goes further. And a program may end without having
said it: a pidfd is readable then.

**Interface:** :func:`lend`, :class:`Readiness`.

**See:** sd_notify(3); runc ``notify_socket.go``.
"""

import os
import select
import socket
from dataclasses import replace

from minidock.spec.runtime import Mount, Spec

NAME, INSIDE = "notify.sock", "/run/notify"
PATIENCE = 30.0  # seconds for the service manager to have seen it


# %% The container's end
def lend(spec: Spec, source: str) -> Spec:
    """``spec`` with the directory ``source`` in the container, and the variable that says where."""
    assert spec.process is not None
    mount = Mount(INSIDE, "bind", source, ("bind", "nosuid", "noexec", "nodev", "ro"))
    variable = f"NOTIFY_SOCKET={INSIDE}/{NAME}"
    process = replace(spec.process, env=(*spec.process.env, variable))
    return replace(spec, mounts=(*spec.mounts, mount), process=process)


# %% Passing it on
class Readiness:
    """The socket in ``directory``, and what comes of it: a word to ``manager``."""

    def __init__(self, directory: str, manager: str) -> None:
        self._manager = f"\0{manager[1:]}" if manager.startswith("@") else manager
        self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # through /proc: a socket's path must fit into 108 bytes
            self._receiver.bind(f"/proc/self/fd/{fd}/{NAME}")
            os.chmod(f"/proc/self/fd/{fd}/{NAME}", 0o777)  # noqa: S103 (whoever the program runs as)
        finally:
            os.close(fd)

    def forward(self, pid: int, main: int) -> None:
        """Wait until the container says it, or its process ``pid`` ends; tell the manager to watch ``main``."""
        receiver, ended = self._receiver.fileno(), os.pidfd_open(pid)
        try:
            while receiver in select.select([receiver, ended], [], [])[0]:
                lines = self._receiver.recv(4096).split(b"\n")
                said = next((line for line in lines if line.startswith(b"READY=")), None)
                if said is not None:
                    self._tell(said, main)
                    return
        finally:
            os.close(ended)
            self._receiver.close()

    def _tell(self, ready: bytes, main: int) -> None:
        """And wait until it has been taken: a message of somebody who has gone can be nobody's."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self._manager)
            sender.send(ready + b"\n")
            sender.send(b"MAINPID=%d\n" % main)
            reads, writes = os.pipe2(os.O_CLOEXEC)
            socket.send_fds(sender, [b"BARRIER=1"], [writes])
        os.close(writes)
        select.select([reads], [], [], PATIENCE)  # its end: the manager has closed its copy
        os.close(reads)
