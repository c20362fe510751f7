"""What a container's network is to its lifecycle: plugged in before it starts, unplugged after.

**Interface:** :class:`Cables`, :func:`bridged`.

The traps. A container that ends must give back its published ports at once,
somebody may wait for them; but its cable may take its time, as the kernel
does. And ``--network host`` shares the host's names, too: there is nothing
to write but what the host has.

**See:** moby ``daemon/container_operations.go``; :mod:`minidock.network`.
"""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from minidock import network, steps
from minidock.engine.container import Container
from minidock.errors import Conflict
from minidock.network import Endpoint, Network, PortMapping, names


# %% Cables
class Cables:
    """Connects containers to the bridge, and takes them off."""

    def __init__(self, bridge: Network) -> None:
        self.bridge = bridge
        self._leaving: dict[str, Thread] = {}

    def connect(self, container: Container, netns: str = "") -> list[socket.socket]:
        """Join the bridge, if it is to; returns the sockets that hold the published ports.

        ``netns``: the network namespace to use, if not a new one of the host's.
        """
        if not bridged(container):
            return []
        self.wait(container.id)
        ports, sockets = _reserve(container)
        try:
            self.bridge.ensure()
            container.endpoint = self.bridge.connect(
                container.id, container.config.get("MacAddress") or None, ports, netns
            )
        except BaseException:
            for held in sockets:
                held.close()
            raise
        return sockets

    # %% Names
    def write_files(self, container: Container, other: Container | None) -> str:
        """``/etc/resolv.conf``, ``/etc/hosts`` and ``/etc/hostname``; returns the host name.

        ``other``: whose network the container joins, and whose names it has therefore.
        """
        shared = container.host_config["NetworkMode"] == "host"
        hostname = container.config["Hostname"]
        if other is not None:
            hostname = (other.directory / "hostname").read_text().strip()
        elif not hostname:
            hostname = os.uname().nodename if shared else container.id[:12]
        with steps.step(
            "write resolv.conf, hosts and hostname", call="write(2)", chapter="network"
        ):
            for name, text in self._texts(container, other, hostname).items():
                (container.directory / name).write_text(text)
        return str(hostname)

    def _texts(
        self, container: Container, other: Container | None, hostname: str
    ) -> dict[str, str]:
        host, endpoint = container.host_config, container.endpoint
        whose = other.directory if other else Path("/etc")
        if other is not None or host["NetworkMode"] == "host":
            copied = {name: (whose / name).read_text() for name in ("hosts", "resolv.conf")}
            return {"hostname": f"{hostname}\n", **copied}
        address = endpoint.address if endpoint else None
        extra = _extra_hosts(host, endpoint)
        return {
            "hostname": f"{hostname}\n",
            "hosts": names.hosts(hostname, container.config["Domainname"], address, extra),
            "resolv.conf": names.resolv_conf(host["Dns"], host["DnsSearch"], host["DnsOptions"]),
        }

    # %% Off the network
    def disconnect(self, container: Container) -> None:
        """Pull the cable; nobody has to wait for it.

        The kernel takes some ten milliseconds to be sure that no packet is on
        its way to a device that goes (synchronize_rcu). The address stays
        taken until then. Published ports are withdrawn at once: somebody may
        want them.
        """
        if container.endpoint is None or container.endpoint.ports:
            self.bridge.disconnect(container.id)
            return

        def leave() -> None:
            self.bridge.disconnect(container.id)
            self._leaving.pop(container.id, None)

        thread = Thread(target=leave, daemon=True)
        self._leaving[container.id] = thread
        thread.start()

    def wait(self, container_id: str | None = None) -> None:
        """Wait until that container, or everybody who is leaving, is off the network."""
        for one in [container_id] if container_id else list(self._leaving):
            thread = self._leaving.get(one)
            if thread is not None:
                thread.join()


# %% Who is on the bridge, and with which ports
def bridged(container: Container) -> bool:
    """Whether it has a cable to the bridge."""
    return container.host_config["NetworkMode"] in ("default", "bridge")


def _reserve(container: Container) -> tuple[list[PortMapping], list[socket.socket]]:
    """The sockets for all published ports, or none; of a range of the host's ports the first free one."""
    found: list[PortMapping] = []
    held: list[socket.socket] = []
    try:
        for choices in _port_mappings(container):
            ports, sockets = _first_free(choices, container.name)
            found += ports
            held += sockets
    except BaseException:
        for one in held:
            one.close()
        raise
    return found, held


def _first_free(
    choices: list[PortMapping], name: str
) -> tuple[list[PortMapping], list[socket.socket]]:
    for choice in choices[:-1]:
        try:
            return network.reserve([choice], name)
        except Conflict as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
                raise
    return network.reserve(choices[-1:], name)


def _port_mappings(container: Container) -> Iterator[list[PortMapping]]:
    """``PortBindings``, and with ``-P`` a port of the kernel's choice for each exposed one.

    Each is a list of choices: of one, unless a range of the host's ports was given.
    """
    host = container.host_config
    bindings = {key: list(value or []) for key, value in (host["PortBindings"] or {}).items()}
    if host["PublishAllPorts"]:
        for key in container.config.get("ExposedPorts") or {}:
            bindings.setdefault(key, [{"HostIp": "", "HostPort": ""}])
    for key, wanted in bindings.items():
        port, _, protocol = key.partition("/")
        for one in wanted:
            address = one.get("HostIp") or "0.0.0.0"  # noqa: S104 (what Docker does)
            first, dash, last = (one.get("HostPort") or "0").partition("-")
            outside = range(int(first), int(last if dash else first) + 1)
            yield [PortMapping(address, n, int(port), protocol or "tcp") for n in outside]


def _extra_hosts(host: dict[str, Any], endpoint: Endpoint | None) -> list[tuple[str, str]]:
    """``--add-host NAME:ADDRESS``; ``host-gateway`` is the bridge's own address."""
    pairs = []
    for entry in host["ExtraHosts"]:
        name, _, address = entry.partition(":")
        if address == "host-gateway":
            address = endpoint.gateway if endpoint else "127.0.0.1"
        pairs.append((name, address))
    return pairs
