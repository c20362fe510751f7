"""rtnetlink: how a program tells the kernel about links, addresses and routes.

``ip link add …`` opens a socket of the family ``AF_NETLINK`` and sends one
binary message: a header (length, type, flags, sequence, port), a fixed
structure that depends on the type, and *attributes*, each a length, a type
and a value, padded to four bytes; a value may hold attributes again. The
kernel answers with an error message whose number 0 means that all is well.

The trap: a netlink socket belongs to the network namespace in which it was
*opened*, for ever. To work inside a container's namespace, a thread goes
there, opens a socket, and ends; the socket still works from everywhere.

**Interface:** :class:`Netlink`, :func:`inside`, :func:`in_namespace`.

**See:** netlink(7), rtnetlink(7), the kernel's ``linux/if_link.h``.
"""

import contextvars
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TypeVar

from minidock.linux import syscalls

T = TypeVar("T")

# %% Numbers from the kernel's headers
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE = 24
REQUEST, ACK, EXCL, CREATE, DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
MSG_ERROR, MSG_DONE = 2, 3
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
ERROR_CAPPED, ERROR_HAS_ATTRIBUTES, ERROR_TEXT = 0x100, 0x200, 1
NESTED = 0x8000

IFLA_ADDRESS, IFLA_NAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_NETNS_FD = 1, 3, 4, 10, 18, 28
INFO_KIND, INFO_DATA, VETH_PEER = 1, 2, 1
INFO_PORT_KIND, INFO_PORT_DATA, PORT_HAIRPIN = 4, 5, 4
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
IFF_UP = 1

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst, src, tos, table, protocol, scope, type, flags


# %% Attributes
def attribute(kind: int, value: bytes | int | str) -> bytes:
    """One attribute: a string gets its final zero byte, an integer has 32 bits."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    padding = b"\0" * (-len(value) % 4)  # not counted in the length
    return struct.pack("=HH", len(value) + 4, kind) + value + padding


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes that stand in ``data``."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]  # the two top bits are flags
        data = data[(length + 3) & ~3 :]


# %% What a look-up tells
@dataclass(frozen=True, slots=True)
class Link:
    """A network device; ``master`` is the index of the bridge it is plugged into, or 0."""

    index: int
    name: str
    up: bool
    mac: str
    mtu: int
    master: int


def _parse_link(payload: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(payload)
    found = dict(attributes(payload[_LINK.size :]))

    def number(kind: int) -> int:
        return int(struct.unpack("=I", found[kind])[0]) if kind in found else 0

    name = found.get(IFLA_NAME, b"").rstrip(b"\0").decode()
    mac = found.get(IFLA_ADDRESS, b"").hex(":")
    return Link(index, name, bool(flags & IFF_UP), mac, number(IFLA_MTU), number(IFLA_MASTER))


# %% The conversation
EVERYWHERE = IPv4Network("0.0.0.0/0")


class Netlink:
    """An open rtnetlink socket of the network namespace in which it was made.

    One request at a time, whatever the number of threads. Every method
    raises :class:`OSError` that names the act, with the kernel's own words.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        for option in (CAP_ACK, EXT_ACK):  # short errors, with a text
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._sequence = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(self, act: str, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """Send one message and return the payloads of what comes back."""
        with self._lock:
            self._sequence += 1
            length = _HEADER.size + len(payload)
            header = _HEADER.pack(length, kind, REQUEST | flags, self._sequence, 0)
            self._socket.send(header + payload)
            return self._answers(act, dump=flags & DUMP == DUMP)

    def _answers(self, act: str, dump: bool) -> list[bytes]:
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 18)
            while len(data) >= _HEADER.size:
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
                payload, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue  # the rest of an answer nobody waited for
                if kind == MSG_ERROR:
                    _raise_if_error(act, flags, payload)
                    return answers
                if kind == MSG_DONE:
                    return answers
                answers.append(payload)
                if not dump and not flags & 2:  # NLM_F_MULTI
                    return answers

    # %% Links
    def create_bridge(self, name: str, mac: str | None = None) -> None:
        """``ip link add NAME type bridge``: a switch made of software."""
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_NAME, name)
        if mac:
            body += attribute(IFLA_ADDRESS, _mac(mac))
        body += attribute(IFLA_LINKINFO | NESTED, attribute(INFO_KIND, "bridge"))
        self._request(f"create bridge {name}", NEWLINK, ACK | CREATE | EXCL, body)

    def create_veth(
        self, name: str, peer: str, *, netns: int, mac: str, mtu: int, master: int
    ) -> None:
        """``ip link add``: a cable; ``name`` here, up and in the bridge, ``peer`` in ``netns``.

        One message for all: the kernel makes both ends where they belong, so
        neither is ever seen in the wrong namespace.
        """
        far = _LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_NAME, peer) + attribute(IFLA_MTU, mtu)
        far += attribute(IFLA_ADDRESS, _mac(mac)) + attribute(IFLA_NETNS_FD, netns)
        data = attribute(INFO_DATA | NESTED, attribute(VETH_PEER | NESTED, far))
        body = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + attribute(IFLA_NAME, name)
        body += attribute(IFLA_MTU, mtu) + attribute(IFLA_MASTER, master)
        body += attribute(IFLA_LINKINFO | NESTED, attribute(INFO_KIND, "veth") + data)
        self._request(f"create veth {name} and {peer}", NEWLINK, ACK | CREATE | EXCL, body)

    def delete_link(self, name: str) -> None:
        """``ip link del``: remove a device (and its other end, if it is a veth)."""
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_NAME, name)
        self._request(f"delete link {name}", DELLINK, ACK, body)

    def set_link(
        self,
        index: int,
        *,
        up: bool = False,
        name: str = "",
        mac: str = "",
        mtu: int = 0,
        master: int | None = None,
    ) -> None:
        """``ip link set``: change what is given of the device number ``index``."""
        body = _LINK.pack(0, 0, index, int(up), int(up))
        body += attribute(IFLA_NAME, name) if name else b""
        body += attribute(IFLA_ADDRESS, _mac(mac)) if mac else b""
        body += attribute(IFLA_MTU, mtu) if mtu else b""
        body += attribute(IFLA_MASTER, master) if master is not None else b""
        self._request(f"set link {index}", NEWLINK, ACK, body)

    def set_hairpin(self, name: str) -> None:
        """``bridge link set dev NAME hairpin on``: what came in here may leave here again."""
        data = attribute(INFO_PORT_DATA | NESTED, attribute(PORT_HAIRPIN, b"\1"))
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_NAME, name)
        body += attribute(IFLA_LINKINFO | NESTED, attribute(INFO_PORT_KIND, "bridge") + data)
        self._request(f"set hairpin of {name}", NEWLINK, ACK, body)

    def links(self) -> list[Link]:
        """``ip link``: all devices of the namespace."""
        answers = self._request("list links", GETLINK, DUMP, _LINK.pack(0, 0, 0, 0, 0))
        return [_parse_link(answer) for answer in answers]

    def link(self, name: str) -> Link:
        """One device, by name."""
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(IFLA_NAME, name)
        return _parse_link(self._request(f"find link {name}", GETLINK, 0, body)[0])

    # %% Addresses and routes
    def add_address(self, index: int, address: IPv4Interface) -> None:
        """``ip address add``; OSError EEXIST when it is there already."""
        body = _ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, 0, index)
        body += attribute(IFA_LOCAL, address.ip.packed) + attribute(IFA_ADDRESS, address.ip.packed)
        body += attribute(IFA_BROADCAST, address.network.broadcast_address.packed)
        act = f"add address {address} to link {index}"
        self._request(act, NEWADDR, ACK | CREATE | EXCL, body)

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """``ip -4 address``: pairs of a link's index and an address."""
        found = []
        query = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
        for answer in self._request("list addresses", GETADDR, DUMP, query):
            _, prefix, _, _, index = _ADDRESS.unpack_from(answer)
            local = dict(attributes(answer[_ADDRESS.size :]))[IFA_LOCAL]
            found.append((index, IPv4Interface((local, prefix))))
        return found

    def add_route(self, gateway: IPv4Address, index: int, to: IPv4Network = EVERYWHERE) -> None:
        """``ip route add TO via GATEWAY``: by default the default route."""
        main_table, by_boot, universe, unicast = 254, 3, 0, 1
        body = _ROUTE.pack(
            socket.AF_INET, to.prefixlen, 0, 0, main_table, by_boot, universe, unicast, 0
        )
        body += attribute(RTA_DST, to.network_address.packed) if to.prefixlen else b""
        body += attribute(RTA_GATEWAY, gateway.packed) + attribute(RTA_OIF, index)
        self._request(f"add route {to} via {gateway}", NEWROUTE, ACK | CREATE | EXCL, body)


# %% Errors in the kernel's words
def _raise_if_error(act: str, flags: int, payload: bytes) -> None:
    number = -struct.unpack_from("=i", payload)[0]
    if number == 0:
        return
    text = os.strerror(number)
    if flags & ERROR_HAS_ATTRIBUTES and flags & ERROR_CAPPED:
        # After the number stands the header of our request, then attributes.
        found = dict(attributes(payload[4 + _HEADER.size :]))
        if ERROR_TEXT in found:
            text += f" ({found[ERROR_TEXT].rstrip(bytes(1)).decode()})"
    raise OSError(number, f"netlink: {act}: {text}")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


# %% Inside another network namespace
def inside(act: Callable[[], T], enter: Callable[[], None]) -> T:
    """Call ``enter`` and then ``act`` in a thread of its own, which ends afterwards.

    Namespaces belong to a *thread*. Ours must stay where it is, and coming
    back can fail; a thread that dies need not come back.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            enter()
            result.append(act())
        except BaseException as error:  # noqa: BLE001 (carried over to the caller's thread)
            failure.append(error)

    context = contextvars.copy_context()  # steps taken in there are heard too
    thread = threading.Thread(target=context.run, args=(body,), name="netns", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def in_namespace(fd: int, act: Callable[[], T]) -> T:
    """The result of ``act``, called in the network namespace that ``fd`` names."""
    return inside(act, lambda: syscalls.setns(fd, syscalls.Clone.NEWNET))
