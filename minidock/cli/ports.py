"""Ports: what may stand after ``-p`` and ``--expose``.

``[IP:][HOST:]CONTAINER[/PROTOCOL]``, where each port may be a range, or the
same in words: ``target=80,published=8080``.

The trap is a range on one side only: ``8000-9000:80`` means *any one* of a
thousand ports of the host, and is the daemon's to choose.

**Interface:** :func:`bindings`, :func:`exposed`. They raise
:class:`OptionError` in Docker's words.

**See:** go-connections ``nat/nat.go``; docker/cli ``opts/port.go``.
"""

from __future__ import annotations

from minidock.cli.flags import OptionError
from minidock.cli.values import is_address

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import Any

Bindings = dict[str, "list[dict[str, str]]"]


# %% -p
def bindings(texts: list[str]) -> Bindings:
    """The API's ``PortBindings`` for all ``-p`` together."""
    found: Bindings = {}
    for text in texts:
        for key, binding in _specification(_in_short(text) if "=" in text else text):
            found.setdefault(key, []).append(binding)
    return found


def _specification(text: str) -> list[tuple[str, dict[str, str]]]:
    """One ``-p``: pairs of a container's port and where it is published."""
    outside, _, inside = text.rpartition(":")
    address, _, host = outside.rpartition(":")
    port, _, protocol = inside.partition("/")
    protocol = protocol.lower() or "tcp"
    address = address.removeprefix("[").removesuffix("]")
    if address and not is_address(address):
        raise OptionError(f"invalid IP address: {address}")
    if not port:
        raise OptionError(f"no port specified: {text}<empty>")
    ports = _range(port, f"invalid containerPort: {port}")
    hosts = _range(host, f"invalid hostPort: {host}") if host else None
    if hosts and len(hosts) != len(ports) and len(ports) > 1:
        raise OptionError(
            f"invalid ranges specified for container and host Ports: {port} and {host}"
        )
    if protocol not in ("tcp", "udp", "sctp"):
        raise OptionError(f"invalid proto: {protocol}")
    where = [str(number) for number in hosts] if hosts else [""] * len(ports)
    if hosts and len(ports) < len(hosts):
        where = [f"{hosts[0]}-{hosts[-1]}"]
    return [
        (f"{number}/{protocol}", {"HostIp": address, "HostPort": one})
        for number, one in zip(ports, where, strict=True)
    ]


def _range(text: str, complaint: str) -> range:
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise OptionError(complaint)
    numbers = range(int(first), int(last if dash else first) + 1)
    if not numbers or numbers[-1] > 65535:
        raise OptionError(complaint)
    return numbers


def _in_short(text: str) -> str:
    """``target=80,published=8080,protocol=tcp,mode=host`` as ``8080:80/tcp``."""
    words = {"published": "", "target": "", "protocol": "tcp"}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise OptionError(
                f"invalid publish opts format (should be name=value but got '{field}')"
            )
        words[key] = value
    return f"{words['published']}:{words['target']}/{words['protocol']}"


# %% --expose
def exposed(texts: list[str], published: Bindings) -> dict[str, Any]:
    """The API's ``ExposedPorts``: what is exposed, and what is published."""
    found: dict[str, Any] = {key: {} for key in published}
    for text in texts:
        if ":" in text:
            raise OptionError(f"invalid port format for --expose: {text}")
        port, _, protocol = text.partition("/")
        number = next((n for n in port.split("-") if not n.isdigit()), port)
        why = f'error: strconv.ParseUint: parsing "{number}": invalid syntax'
        for one in _range(port, f"invalid range format for --expose: {text}, {why}"):
            found[f"{one}/{protocol.lower() or 'tcp'}"] = {}
    return found
