"""Talking to a container's monitor.

**Interface:** :func:`connect`, :func:`ask`, :class:`MonitorGone`, :func:`hear_out`, :func:`kill_cgroup`.

The traps. The path of a unix socket must fit into 108 bytes and a
container's directory need not, so we go through ``/proc/self/fd``. And a
monitor may end at any moment: the connection is refused, or closes without
an answer.

**See:** unix(7); :mod:`minidock.monitor` for the requests.
"""

import os
import socket
from collections.abc import Sequence
from typing import Any

from minidock import cgroups, steps
from minidock.engine.container import Container
from minidock.errors import Unavailable
from minidock.monitor import SOCKET
from minidock.runtime.sync import Channel, rebuild


class MonitorGone(Unavailable):
    """The monitor ended before it answered: so has its container, or it will be found dead."""


# %% A question and its answer
def connect(container: Container) -> Channel:
    """A connection to its monitor. Raises :class:`OSError` when there is none."""
    directory = os.open(container.directory, os.O_PATH | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{SOCKET}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    return Channel(connection)


def ask(container: Container, request: dict[str, Any], fds: Sequence[int] = ()) -> Any:
    """One request and its answer. Raises what the monitor raised."""
    channel = connect(container)
    try:
        channel.send(request, fds)
        while True:
            answer, _ = channel.receive()
            if answer is None:
                raise MonitorGone(f"the monitor of container {container.name} has gone")
            if "step" in answer:
                steps.relay(answer["step"])
                continue
            if "error" in answer:
                raise rebuild(answer)
            return answer
    finally:
        channel.close()


def hear_out(channel: Channel) -> dict[str, Any]:
    """The monitor's report until the container runs: steps, then its state or an error."""
    while True:
        message, _ = channel.receive()
        if message is None:
            raise Unavailable("the container's monitor died while it started the container")
        if "step" in message:
            steps.relay(message["step"])
        elif "error" in message:
            raise rebuild(message)
        else:
            return dict(message["started"])


# %% When there is no monitor to talk to
def kill_cgroup(path: str) -> None:
    """End whatever runs in a container's cgroup, and the cgroup: for when nobody else is left."""
    cgroup = cgroups.open(path)
    cgroup.kill()
    cgroup.delete()
