"""Gives the address without its prefix length: to the container, the bridge is no neighbour."""

# check: cable
# expect: the address \S+/24 on eth0
from ipaddress import IPv4Interface

from minidock.linux.netlink import Netlink
from minidock.network.addresses import Endpoint


def _configure(endpoint: Endpoint) -> None:
    with Netlink() as there:
        index = there.link("eth0").index
        there.add_address(index, IPv4Interface(f"{endpoint.address}/32"))
        there.set_link(index, up=True)
