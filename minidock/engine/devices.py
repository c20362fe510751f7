"""Devices: ``--device`` and ``--device-cgroup-rule``.

A device is used through a node, and a node is only two numbers with a name:
who may make nodes could reach any device. So there are two locks: the node
must be in the container's ``/dev``, and the cgroup's filter must let its
numbers pass. ``--device`` opens both, ``--device-cgroup-rule`` the second.

The trap is ``--privileged``: it shows all of the host's devices, but never the
host's terminals: ``/dev/pts``, ``/dev/console`` are the container's own.

**Interface:** :func:`check`, :func:`nodes`, :func:`rules`.

**See:** mknod(2); docker run reference, ``--device``; OCI runtime
specification, config-linux.md, "Devices".
"""

import os
import re
from collections.abc import Iterator
from typing import Any

from minidock.errors import InvalidParameter
from minidock.spec import runtime as oci

Host = dict[str, Any]  # the API's HostConfig


# %% What makes no sense
def check(host: Host) -> None:
    """Raise :class:`InvalidParameter` for a rule or a permission that makes no sense."""
    for text in host["DeviceCgroupRules"] or []:
        _rule(text)
    for entry in host["Devices"] or []:
        if not set(entry.get("CgroupPermissions") or "rwm") <= set("rwm"):
            raise InvalidParameter(f"invalid device mode: {entry['CgroupPermissions']}")


# %% Nodes
def nodes(host: Host) -> tuple[oci.Device, ...]:
    """The nodes for ``--device``, or all of the host's for ``--privileged``."""
    if host["Privileged"]:
        return tuple(device for device, _ in _below("/dev", "/dev", "rwm"))
    return tuple(device for device, _ in _asked(host))


def _asked(host: Host) -> Iterator[tuple[oci.Device, str]]:
    for entry in host["Devices"] or []:
        source = entry["PathOnHost"]
        target = entry.get("PathInContainer") or source
        access = entry.get("CgroupPermissions") or "rwm"
        if os.path.isdir(source):
            yield from _directory(source, target, access)
        else:
            yield _node(source, target), access


def _directory(source: str, target: str, access: str) -> Iterator[tuple[oci.Device, str]]:
    found = list(_below(os.path.realpath(source), target, access))
    if not found:
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{source}": no devices'
            " found"
        )
    yield from found


_NOT_OURS = {"pts", "shm", "fd", "mqueue", "console", "ptmx", "lxc", "lxd-fs", "core", "tty"}


def _below(source: str, target: str, access: str) -> Iterator[tuple[oci.Device, str]]:
    """All devices in a directory and those in it, without what is the container's own."""
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if entry.name in _NOT_OURS or entry.name.startswith("."):
            continue
        where = f"{target}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, where, access)
        elif _kind(entry.stat(follow_symlinks=False).st_mode) is not None:
            yield _node(entry.path, where), access


# %% One node
def _kind(mode: int) -> str | None:
    return {0o020000: "c", 0o060000: "b"}.get(mode & 0o170000)


def _node(source: str, target: str) -> oci.Device:
    """The host's numbers, mode and owner, at the path asked for."""
    try:
        status = os.stat(source)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{source}": {reason}'
        ) from None
    kind = _kind(status.st_mode)
    if kind is None:
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{source}": not a device'
            " node"
        )
    number = status.st_rdev
    return oci.Device(
        kind, target, os.major(number), os.minor(number), status.st_mode & 0o777,
        status.st_uid, status.st_gid,
    )  # fmt: skip


# %% The filter's rules
def rules(host: Host) -> tuple[oci.DeviceRule, ...]:
    """Deny all, then allow what this container may; the runtime adds what every program needs."""
    if host["Privileged"]:
        return (oci.DeviceRule(True, access="rwm"),)
    more = [
        oci.DeviceRule(True, device.type, device.major, device.minor, access)
        for device, access in _asked(host)
    ]
    more += [_rule(text) for text in host["DeviceCgroupRules"] or []]
    return (oci.DeviceRule(False, access="rwm"), *more)


_RULE = re.compile(
    r"(?P<type>[acb]) (?P<major>[0-9]+|\*):(?P<minor>[0-9]+|\*) (?P<access>[rwm]{1,3})"
)


def _rule(text: str) -> oci.DeviceRule:
    """``c 42:* rwm``, as the kernel writes it."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    major, minor = (None if match[key] == "*" else int(match[key]) for key in ("major", "minor"))
    return oci.DeviceRule(True, match["type"], major, minor, match["access"])
