"""What the daemon was told about registries, and about the way to them.

Names without a registry are those of a default one, and this very machine
may be spoken to without TLS; the rest comes from the daemon's options.

The trap is what "this machine" is: not a name but an address, and a name
may have several.

**Interface:** :class:`Settings`, :func:`proxy_for`.

**See:** dockerd(8), ``--insecure-registry``; Docker's manual, "Verify
repository client with certificates" (``certs.d``).
"""

import ipaddress
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from minidock.spec.reference import DEFAULT_DOMAIN


# %% What the daemon was told
@dataclass(frozen=True, slots=True)
class Settings:
    """``insecure``: hosts and networks (CIDR) that may be spoken to without TLS or certificates."""

    default: str = f"registry-1.{DEFAULT_DOMAIN}"  # where names without a registry come from
    insecure: tuple[str, ...] = ()
    certificates: tuple[Path, ...] = (Path("/etc/docker/certs.d"), Path("/etc/minidock/certs.d"))
    downloads: int = 3  # at a time, as Docker
    uploads: int = 5

    @classmethod
    def from_environment(cls, default: str = "", insecure: Sequence[str] = ()) -> "Settings":
        """``$MINIDOCK_REGISTRY`` and ``$MINIDOCK_INSECURE_REGISTRIES`` (with commas), or what is given."""
        chosen = default or os.environ.get("MINIDOCK_REGISTRY") or cls().default
        more = os.environ.get("MINIDOCK_INSECURE_REGISTRIES", "").split(",")
        return cls(chosen, (*insecure, *(one.strip() for one in more if one.strip())))

    def host(self, domain: str) -> str:
        """The host that serves the names of ``domain``."""
        return self.default if domain == DEFAULT_DOMAIN else domain

    def is_insecure(self, host: str) -> bool:
        """Whether it may go without TLS: it is this machine, or somebody said so."""
        name = host.rpartition(":")[0] if _has_port(host) else host
        if host in self.insecure or name in self.insecure:
            return True
        networks = [_network(text) for text in ("127.0.0.0/8", "::1/128", *self.insecure)]
        found = _addresses(name.strip("[]"))
        return any(one in network for one in found for network in networks if network)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.endswith("]")


def _network(text: str) -> Network | None:
    with suppress(ValueError):
        return ipaddress.ip_network(text)
    return None


def _addresses(name: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]


# %% Proxies
def proxy_for(scheme: str, host: str) -> str:
    """The proxy (host and port) on the way to ``host``; empty where there is none.

    By ``$HTTPS_PROXY``, ``$HTTP_PROXY`` and ``$NO_PROXY``, in either case. This
    machine is never on the other side of a proxy.
    """
    name = urlsplit(f"//{host}").hostname or ""
    proxy = _variable(f"{scheme}_proxy")
    exceptions = [one.strip().lstrip("*.") for one in _variable("no_proxy").split(",")]
    loopback = any(one.is_loopback for one in _literal(name)) or name == "localhost"
    if not proxy or loopback or _excepted(name, exceptions):
        return ""
    return urlsplit(proxy if "//" in proxy else f"//{proxy}").netloc.rpartition("@")[2]


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper()) or ""


def _literal(name: str) -> list[Address]:
    with suppress(ValueError):
        return [ipaddress.ip_address(name)]
    return []


def _excepted(name: str, exceptions: list[str]) -> bool:
    networks = [_network(one) for one in exceptions]
    within = any(one in network for one in _literal(name) for network in networks if network)
    return within or any(name == one or name.endswith(f".{one}") for one in exceptions if one)
