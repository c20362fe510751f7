"""Forgets the default route: the container reaches its neighbours on the bridge and nobody else."""

# check: cable
# expect: a default route by the gateway
from ipaddress import IPv4Interface

from minidock.linux.netlink import Netlink
from minidock.network.addresses import Endpoint


def _configure(endpoint: Endpoint) -> None:
    with Netlink() as there:
        index = there.link("eth0").index
        there.add_address(index, IPv4Interface(f"{endpoint.address}/{endpoint.prefix_length}"))
        there.set_link(index, up=True)
