"""Attaching: a client's connection becomes the container's.

**Interface:** :func:`attach`, :class:`Wishes`.

**See:** Engine API, "Attach to a container"; unix(7), SCM_RIGHTS.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass

from minidock.engine import logs as log_reader
from minidock.engine.container import Container, Pending
from minidock.engine.monitors import ask
from minidock.errors import Conflict

# %% Attach
Accept = Callable[[], tuple[socket.socket, bytes]]


@dataclass(frozen=True, slots=True)
class Wishes:
    """Which streams; ``logs``: what was written before, too; ``stream``: and what is to come."""

    stdin: bool
    stdout: bool
    stderr: bool
    logs: bool
    stream: bool


def attach(container: Container, accept: Accept, wishes: Wishes) -> None:
    """Hand a client over to the container's monitor, or keep it until the container starts.

    ``accept`` tells the client that it is attached, and gives its connection
    and what it has sent already. It is called under the container's lock: a
    client that has been told may start the container at once, and must not
    get in before we have noted it down.
    """
    with container.lock:
        if container.status == "paused":
            raise Conflict(
                f"container {container.id} is paused, unpause the container before attach"
            )
        client, early = accept()
        request = {
            "request": "attach",
            "stdin": wishes.stdin and bool(container.config["OpenStdin"]),
            "stdout": wishes.stdout,
            "stderr": wishes.stderr,
            "early": early.decode("latin-1"),
        }
        if wishes.logs:
            selection = log_reader.Selection(stdout=wishes.stdout, stderr=wishes.stderr)
            for piece in log_reader.read(container, selection):
                client.sendall(piece)
        if wishes.stream and not container.running:
            container.pending.append(Pending(request, client))
            return
        try:
            if wishes.stream:
                ask(container, request, [client.fileno()])
        finally:
            client.close()
