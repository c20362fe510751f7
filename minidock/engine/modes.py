"""Whose namespaces: its own, the host's, or another container's; and the sysctls that belong to them.

The traps. To share an IPC namespace is to share ``/dev/shm`` too, which is a
mount and no part of it; so the one who lends must have said so beforehand
(``--ipc shareable``). And a sysctl may be set only if it belongs to a namespace
that is the container's own: all the others would change the host.

**Interface:** :func:`check`, :func:`check_donor`.

**See:** docker run reference, "PID settings", "IPC settings", "sysctl"; runc
``libcontainer/configs/validate``, whose words the messages are.
"""

from typing import Any

from minidock.errors import Conflict, InvalidParameter

Host = dict[str, Any]  # the API's HostConfig

# %% Modes
_MODES = {
    "PidMode": ("PID", ("host",), True),
    "IpcMode": ("IPC", ("private", "shareable", "none", "host"), True),
    "UTSMode": ("UTS", ("host",), False),
    "CgroupnsMode": ("cgroup namespace", ("private", "host"), False),
    "UsernsMode": ("USER", ("host",), False),
}


def check(host: Host) -> None:
    """Raise :class:`InvalidParameter` for a mode nobody knows, or a sysctl that is not for us."""
    for key, (name, allowed, sharable) in _MODES.items():
        value = host[key] or ""
        _, colon, other = value.partition("container:")
        if value in ("", *allowed) or (sharable and colon and other):
            continue
        raise InvalidParameter(f"invalid {name} mode: {value}")
    for name in host["Sysctls"] or {}:
        _check_sysctl(name, host)


def check_donor(key: str, donor: Host, name: str) -> None:
    """Whether the container ``name``, described by ``donor``, lends the namespace of ``key``."""
    if key == "IpcMode" and donor["IpcMode"] not in ("shareable", "host"):
        raise Conflict(
            f"cannot join IPC of a container {name}: non-shareable IPC"
            " (hint: use IpcMode:shareable for the donor container)"
        )


# %% Sysctls
_OF_IPC = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax"
    " kernel.shmmni kernel.shm_rmid_forced".split()
)


def _check_sysctl(name: str, host: Host) -> None:
    if name in _OF_IPC or name.startswith("fs.mqueue."):
        if host["IpcMode"] == "host":
            raise InvalidParameter(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
    elif name.startswith("net."):
        if host["NetworkMode"] == "host":
            raise InvalidParameter(f'sysctl "{name}" not allowed in host network namespace')
    elif name == "kernel.domainname":
        if host["UTSMode"] == "host":
            raise InvalidParameter(f'sysctl "{name}" is not allowed in the hosts UTS namespace')
    elif name == "kernel.hostname":
        raise InvalidParameter(f'sysctl "{name}" is not allowed: use --hostname')
    else:
        raise InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')
