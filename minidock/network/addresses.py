"""Addresses: which container has which, in a file that survives a crash.

Nobody but us knows which addresses of the subnet are given out: the bridge
does not care. So it stands in a JSON file, changed only under a file lock,
because two daemons might share a bridge by mistake.

The trap is the order: first note down, then use. A crash in between leaves
a note without a use, which recovery finds; the other order would leave a
use that nobody knows of, and then two containers with one address.

**Interface:** :class:`PortMapping`, :class:`Endpoint`, :class:`Addresses`.

**See:** flock(2), moby ``libnetwork/ipams``.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from minidock.errors import Unavailable
from minidock.paths import read_json, write_json


# %% What a container has on the network
@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the host that leads to one of the container; host port 0: the kernel chooses."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's end of the cable."""

    address: str
    prefix_length: int
    gateway: str
    mac: str
    ports: tuple[PortMapping, ...]
    bridge: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Endpoint":
        """The endpoint that :func:`dataclasses.asdict` made ``data`` of."""
        ports = tuple(PortMapping(**port) for port in data["ports"])
        return cls(**{**data, "ports": ports})


def mac_of(address: str) -> str:
    """02:42 and the four bytes of the address, as Docker does: two containers never share one."""
    return "02:42:" + ":".join(f"{int(byte):02x}" for byte in address.split("."))


# %% The book of addresses
class Addresses:
    """The endpoints of one bridge, in ``file``; the first address of ``subnet`` is the bridge's."""

    def __init__(self, file: Path, subnet: IPv4Network, bridge: str) -> None:
        self.file = file
        self.subnet = subnet
        self.bridge = bridge
        self.gateway = str(subnet[1])

    def allocate(self, owner: str, mac: str | None, ports: Sequence[PortMapping]) -> Endpoint:
        """Give ``owner`` the lowest free address; :class:`Unavailable` when there is none."""
        with self._changing() as book:
            taken = {self.gateway, *(entry["address"] for entry in book.values())}
            free = (str(one) for one in self.subnet.hosts() if str(one) not in taken)
            address = next(free, None)
            if address is None:
                raise Unavailable(f"no available IPv4 addresses on this network: {self.subnet}")
            endpoint = Endpoint(
                address,
                self.subnet.prefixlen,
                self.gateway,
                mac or mac_of(address),
                tuple(ports),
                self.bridge,
            )
            book[owner] = asdict(endpoint)
        return endpoint

    def release(self, owner: str) -> None:
        """Take back what ``owner`` has, if it has anything."""
        with self._changing() as book:
            book.pop(owner, None)

    def all(self) -> dict[str, Endpoint]:
        """Who has what."""
        return {owner: Endpoint.from_json(entry) for owner, entry in self._read().items()}

    # %% Reading and changing the file
    def _read(self) -> dict[str, Any]:
        try:
            book: dict[str, Any] = read_json(self.file)
        except FileNotFoundError:
            return {}
        return book

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # A lock file of its own: the file itself is replaced by every change.
        with open(self.file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            book = self._read()
            before = dict(book)
            yield book
            if book != before:
                write_json(self.file, book)
