"""Adds the route before the device is up: the kernel does not know how to reach the gateway."""

# check: cable
# expect: (Network is unreachable|Network is down|Nexthop has invalid gateway)
from ipaddress import IPv4Address, IPv4Interface

from minidock.linux.netlink import Netlink
from minidock.network.addresses import Endpoint


def _configure(endpoint: Endpoint) -> None:
    with Netlink() as there:
        index = there.link("eth0").index
        there.add_route(IPv4Address(endpoint.gateway), index)
        there.add_address(index, IPv4Interface(f"{endpoint.address}/{endpoint.prefix_length}"))
        there.set_link(index, up=True)
