"""Names: the texts of a container's ``/etc/resolv.conf`` and ``/etc/hosts``.

The trap: a resolver on the host's loopback (systemd-resolved's 127.0.0.53)
cannot be reached from a container, whose loopback is another one.

**Interface:** :func:`resolv_conf`, :func:`hosts`.

**See:** resolv.conf(5), hosts(5).
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path

# %% resolv.conf
FALLBACK = ("8.8.8.8", "8.8.4.4")  # Docker's choice when the host has none that can be reached


def resolv_conf(
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    host: str | None = None,
) -> str:
    """The container's resolv.conf: what was asked for, the rest from the ``host``'s text."""
    if host is None:
        file = Path("/etc/resolv.conf")
        host = file.read_text() if file.exists() else ""
    lines = [line.split() for line in host.splitlines()]
    found = [line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1]
    servers = servers or [one for one in found if _reachable(one)] or FALLBACK
    search = search or _last(lines, "search")
    options = options or _last(lines, "options")
    text = "".join(f"nameserver {server}\n" for server in servers)
    if search and list(search) != ["."]:  # --dns-search . means none
        text += f"search {' '.join(search)}\n"
    return text + (f"options {' '.join(options)}\n" if options else "")


def _last(lines: list[list[str]], keyword: str) -> list[str]:
    return next((line[1:] for line in reversed(lines) if line[:1] == [keyword]), [])


def _reachable(server: str) -> bool:
    try:
        address = ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback


# %% hosts
_STANDARD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts(
    hostname: str, domain: str, address: str | None, extra: Iterable[tuple[str, str]] = ()
) -> str:
    """The container's hosts file; ``extra`` are pairs of a name and an address."""
    text = _STANDARD + "".join(f"{where}\t{name}\n" for name, where in extra)
    if address:
        names = f"{hostname}.{domain} {hostname}" if domain else hostname
        text += f"{address}\t{names}\n"
    return text
