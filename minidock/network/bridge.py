"""The bridge: a switch in the kernel, and a cable from it to each container.

A network namespace begins with nothing but a loopback device that is down.
A veth pair is a cable with two ends: one end goes into the namespace as
``eth0``, the other stays here, plugged into the bridge; the bridge has an
address, which is the containers' gateway.

The trap is cleaning up. A namespace lives as long as a process, a file
descriptor or a mount holds it; so everything carries the container's id in
its name, and :meth:`Network.disconnect` needs nothing but that.

**Interface:** :class:`Network`, :func:`make_netns`, :func:`remove_netns`.

**See:** veth(4), network_namespaces(7), bubblewrap ``network.c``.
"""

import errno
import hashlib
import os
import threading
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from minidock import steps
from minidock.linux import netlink, syscalls
from minidock.linux.netlink import Netlink
from minidock.network import forwarding
from minidock.network.addresses import Addresses, Endpoint, PortMapping
from minidock.network.firewall import Firewall
from minidock.paths import Paths


# %% A namespace that has a name
def make_netns(path: Path, existing: str = "") -> None:
    """A new network namespace, its loopback up, kept alive by a bind mount on the file ``path``.

    ``existing``: not a new one but this, which belongs to somebody's user namespace.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()

    def prepare() -> None:
        syscalls.mount("/proc/thread-self/ns/net", path, flags=syscalls.Mount.BIND)
        with Netlink() as there:
            there.set_link(1, up=True)  # the loopback is always number 1
        # Devices to come get no IPv6 address: we route IPv4 only.
        without_ipv6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
        if without_ipv6.exists():
            without_ipv6.write_text("1")

    def enter() -> None:
        if not existing:
            syscalls.unshare(syscalls.Clone.NEWNET)
            return
        fd = os.open(existing, os.O_RDONLY | os.O_CLOEXEC)
        syscalls.setns(fd, syscalls.Clone.NEWNET)
        os.close(fd)

    try:
        netlink.inside(prepare, enter)
    except BaseException:
        remove_netns(path)
        raise


def remove_netns(path: Path) -> None:
    """Let the namespace go, if it is there; its devices go with it."""
    try:
        syscalls.umount(path, syscalls.Umount.DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted, not there
            raise
    path.unlink(missing_ok=True)


def veth_name(container_id: str) -> str:
    """The host's end of the cable: device names have at most 15 bytes."""
    return f"md{container_id[:11]}"


# %% The network
class Network:
    """The bridge of this engine; safe to use from many threads."""

    def __init__(self, paths: Paths, bridge: str | None = None, subnet: str | None = None) -> None:
        self.bridge = bridge or os.environ.get("MINIDOCK_BRIDGE", "minidock0")
        self.subnet = IPv4Network(subnet or os.environ.get("MINIDOCK_SUBNET", "172.30.0.0/16"))
        self._netns = paths.netns
        self._addresses = Addresses(
            paths.networks / f"{self.bridge}.json", self.subnet, self.bridge
        )
        self._firewall = Firewall(self.bridge, str(self.subnet))
        self._lock = threading.Lock()
        self._netlink: Netlink | None = None
        self._ready = False
        self._mtu = 1500

    @property
    def _links(self) -> Netlink:
        if self._netlink is None:
            self._netlink = Netlink()
        return self._netlink

    def ensure(self) -> None:
        """Make the bridge, its address and its rules, unless all is there; cheap to repeat."""
        with self._lock:
            if self._ready and _exists(self._links, self.bridge):
                return
            with steps.step("make the bridge", call="netlink RTM_NEWLINK", chapter="network"):
                self._make_bridge()
            with steps.step("write the firewall table", call="nft(8)", chapter="network"):
                self._firewall.install(self._addresses.all().values())
                self._firewall.open_foreign()
            self._ready = True

    def _make_bridge(self) -> None:
        self._mtu = default_mtu()
        if not _exists(self._links, self.bridge):
            # A MAC of our own, or the bridge's would change with each container.
            digest = hashlib.sha256(self.bridge.encode()).hexdigest()
            mac = "02:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))
            self._links.create_bridge(self.bridge, mac)
        link = self._links.link(self.bridge)
        address = IPv4Interface((self.subnet[1], self.subnet.prefixlen))
        if (link.index, address) not in self._links.addresses():
            self._links.add_address(link.index, address)
        self._links.set_link(link.index, up=True, mtu=self._mtu)
        Path(f"/proc/sys/net/ipv4/conf/{self.bridge}/route_localnet").write_text("1")
        forwarding.switch_on()

    # %% Connecting a container
    def connect(
        self, container_id: str, mac: str | None, ports: Sequence[PortMapping], netns: str = ""
    ) -> Endpoint:
        """Give the container a namespace (or ``netns``), a cable, an address, and its published ports."""
        with steps.transaction():
            with steps.step("take an address", call="flock(2)", chapter="network") as step:
                step.undo(self._addresses.release, container_id)
                endpoint = self._addresses.allocate(container_id, mac, ports)
                step.details["address"] = endpoint.address
            path = self._netns / container_id
            with steps.step(
                "make the network namespace", call="unshare(2) CLONE_NEWNET", chapter="network"
            ) as step:
                make_netns(path, netns)
                step.undo(remove_netns, path)
            self._plug_in(container_id, path, endpoint)
            if endpoint.ports:
                with steps.step("publish the ports", call="nft(8)", chapter="network") as step:
                    step.undo(self._firewall.withdraw, endpoint)
                    self._firewall.publish(endpoint)
        return endpoint

    def _plug_in(self, container_id: str, path: Path, endpoint: Endpoint) -> None:
        name = veth_name(container_id)
        master = self._links.link(self.bridge).index
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with steps.step(
                "plug in the cable", call="netlink RTM_NEWLINK veth", chapter="network", name=name
            ) as step:
                self._links.create_veth(
                    name, "eth0", netns=namespace, mac=endpoint.mac, mtu=self._mtu, master=master
                )
                step.undo(delete_link, self._links, name)
                # With br_netfilter the bridge itself rewrites the address, and would
                # then not send a frame back through the port that it came from.
                self._links.set_hairpin(name)
            with steps.step("set address and route", call="netlink RTM_NEWADDR", chapter="network"):
                netlink.in_namespace(namespace, lambda: _configure(endpoint))
        finally:
            os.close(namespace)

    # %% Disconnecting, and what a crash left
    def disconnect(self, container_id: str) -> None:
        """Take back all that the container has; also what is there only in part."""
        endpoint = self._addresses.all().get(container_id)
        if endpoint is not None and endpoint.ports:
            self._withdraw(endpoint)
        delete_link(self._links, veth_name(container_id))
        remove_netns(self._netns / container_id)
        # Last, so that a crash before this line leaves the note to recover by.
        if endpoint is not None:
            self._addresses.release(container_id)

    def _withdraw(self, endpoint: Endpoint) -> None:
        self.ensure()  # without its table, nft could not name the elements
        self._firewall.withdraw(endpoint)

    def remove_leftovers(self, known: Collection[str]) -> list[str]:
        """Disconnect whoever is not ``known``, after a crash; returns their ids."""
        found = set(self._addresses.all())
        if self._netns.is_dir():
            found.update(entry.name for entry in self._netns.iterdir())
        gone = sorted(found - set(known))
        for container_id in gone:
            self.disconnect(container_id)
        return gone

    def endpoints(self) -> dict[str, Endpoint]:
        """Every connected container's endpoint, by the container's id."""
        return self._addresses.all()

    def shutdown(self) -> None:
        """Remove bridge and rules, if no container is connected."""
        with self._lock:
            if self._addresses.all() or not _exists(self._links, self.bridge):
                return
            self._firewall.close_foreign()
            self._firewall.remove()
            delete_link(self._links, self.bridge)
            forwarding.give_back()
            self._ready = False

    # %% What clients see
    def inspect(self) -> dict[str, Any]:
        """The Engine API's ``Network``."""
        gateway = self._addresses.gateway
        containers = {
            container_id: {
                "Name": container_id[:12],
                "EndpointID": "",
                "MacAddress": one.mac,
                "IPv4Address": f"{one.address}/{one.prefix_length}",
                "IPv6Address": "",
            }
            for container_id, one in self.endpoints().items()
        }
        return {
            "Name": "bridge",
            "Id": hashlib.sha256(f"{self.bridge} {self.subnet}".encode()).hexdigest(),
            "Created": "0001-01-01T00:00:00Z",
            "Scope": "local",
            "Driver": "bridge",
            "EnableIPv6": False,
            "IPAM": {
                "Driver": "default",
                "Options": None,
                "Config": [{"Subnet": str(self.subnet), "Gateway": gateway}],
            },
            "Internal": False,
            "Attachable": False,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": containers,
            "Options": {
                "com.docker.network.bridge.default_bridge": "true",
                "com.docker.network.bridge.name": self.bridge,
                "com.docker.network.driver.mtu": str(self._mtu),
            },
            "Labels": {},
        }


# %% Links that may be there or not
def _exists(links: Netlink, name: str) -> bool:
    try:
        links.link(name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True


def delete_link(links: Netlink, name: str) -> None:
    """Delete the device ``name``, if it is there."""
    try:
        links.delete_link(name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _configure(endpoint: Endpoint) -> None:
    """In the container's namespace: address, up, default route (in this order)."""
    with Netlink() as there:
        index = there.link("eth0").index
        there.add_address(index, IPv4Interface(f"{endpoint.address}/{endpoint.prefix_length}"))
        there.set_link(index, up=True)
        there.add_route(IPv4Address(endpoint.gateway), index)


def default_mtu() -> int:
    """The longest packet that the device of the default route takes (1500 without one)."""
    for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]:
        device, destination, *_ = line.split()
        if destination == "00000000":
            # Not /sys/class/net: a mount of sysfs shows one namespace for ever.
            with Netlink() as links:
                return links.link(device).mtu
    return 1500
