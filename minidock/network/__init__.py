"""The network of containers: one bridge, a cable to each, and translated addresses.

**Interface:** :class:`Network` connects and disconnects; :func:`reserve`
binds the host's ports; :func:`make_netns` serves containers that have a
namespace and no network; :mod:`~minidock.network.names` writes the files by
which a container finds names.

**See:** the modules: ``addresses``, ``ports``, ``firewall``, ``bridge``, ``names``.
"""

from minidock.network import names
from minidock.network.addresses import Endpoint, PortMapping
from minidock.network.bridge import Network, make_netns, remove_netns
from minidock.network.ports import reserve

__all__ = [
    "Endpoint",
    "Network",
    "PortMapping",
    "make_netns",
    "names",
    "remove_netns",
    "reserve",
]
