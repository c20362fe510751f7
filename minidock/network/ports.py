"""Ports: the kernel says which are free, because we bind them.

A published port is packet rewriting (see :mod:`minidock.network.firewall`),
and that needs no socket. But without one nobody else would know that the
port is taken: a web server could be started on it and never hear anything.
So each port is bound, and the monitor holds the sockets.

**Interface:** :func:`reserve`.

**See:** bind(2), ip(7).
"""

import errno
import socket
from collections.abc import Sequence
from dataclasses import replace

from minidock import steps
from minidock.errors import Conflict, InvalidParameter
from minidock.network.addresses import PortMapping

# %% Reserving ports
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_FAILED = "driver failed programming external connectivity on endpoint"


def reserve(
    ports: Sequence[PortMapping], endpoint: str = ""
) -> tuple[list[PortMapping], list[socket.socket]]:
    """Bind the host's ports; returns them with the kernel's choice for 0, and the sockets.

    :class:`Conflict`, in Docker's words, when one is taken; then none is held.
    """
    resolved: list[PortMapping] = []
    held: list[socket.socket] = []
    try:
        for port in ports:
            with steps.step("reserve a port", call="bind(2)", chapter="network", port=port) as s:
                held.append(_bind(port, endpoint))
                s.undo(held[-1].close)
                resolved.append(replace(port, host_port=held[-1].getsockname()[1]))
    except BaseException:
        for one in held:
            one.close()
        raise
    return resolved, held


def _bind(port: PortMapping, endpoint: str) -> socket.socket:
    if port.protocol not in _KINDS:
        raise InvalidParameter(f"protocol {port.protocol} cannot be published: use tcp or udp")
    holder = socket.socket(socket.AF_INET, _KINDS[port.protocol])
    try:
        # Connections of a container that ended a moment ago do not count.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port.protocol == "tcp"))
        holder.bind((port.host_ip, port.host_port))
        if port.protocol == "tcp":
            holder.listen()
    except OSError as error:
        holder.close()
        where = f"{port.host_ip}:{port.host_port}"
        if error.errno == errno.EADDRINUSE:
            why = f"Bind for {where} failed: port is already allocated"
        else:
            why = f"bind(2) {where}: {error.strerror}"
        name = f"{_FAILED} {endpoint}".rstrip()
        raise Conflict(f"{name}: {why}") from error
    return holder
