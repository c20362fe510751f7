"""Namespaces: what a process can see.

A namespace wraps one kind of global thing (process ids, mounts, network
devices, the host name, ...) so that the processes inside have their own. A
process is born into its parent's namespaces; ``clone(2)`` gives a child new
ones, ``setns(2)`` joins one that exists, and a file in ``/proc/<pid>/ns``
(or a bind mount of it) names one and keeps it alive.

The traps. A *pid* namespace holds the children of the process that asked
for it, never that process itself. ``setns(2)`` to a user namespace is
refused to a process with threads. And a user namespace is empty until
somebody outside writes its id maps: until then everybody in it is nobody.

**Interface:** :data:`KINDS`, :func:`flags`, :func:`joined`,
:func:`write_id_maps`, :func:`enter`, :func:`bring_loopback_up`.

**See:** namespaces(7), user_namespaces(7), pid_namespaces(7), setns(2); OCI
runtime specification, config-linux.md, "Namespaces".
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from minidock import steps
from minidock.errors import InvalidParameter, NotSupported
from minidock.linux.syscalls import Clone, setns
from minidock.spec.runtime import IDMapping, Namespace


# %% The kinds of namespaces, as a table
@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: OCI's name for it, the bit for clone(2), its file in ``/proc/<pid>/ns``."""

    name: str
    flag: Clone
    file: str
    wraps: str


KINDS = (
    Kind("user", Clone.NEWUSER, "user", "user and group ids, capabilities"),
    Kind("mount", Clone.NEWNS, "mnt", "mount points"),
    Kind("pid", Clone.NEWPID, "pid", "process ids"),
    Kind("network", Clone.NEWNET, "net", "devices, addresses, routes, ports"),
    Kind("ipc", Clone.NEWIPC, "ipc", "System V IPC, POSIX message queues"),
    Kind("uts", Clone.NEWUTS, "uts", "host name and domain name"),
    Kind("cgroup", Clone.NEWCGROUP, "cgroup", "the root of the cgroup tree"),
    Kind("time", Clone.NEWTIME, "time", "boot and monotonic clocks"),
)

BY_NAME = {kind.name: kind for kind in KINDS}


def kind_of(namespace: Namespace) -> Kind:
    """The table's row for an OCI ``namespaces[].type``."""
    kind = BY_NAME.get(namespace.type)
    if kind is None:
        known = ", ".join(BY_NAME)
        raise InvalidParameter(
            f"linux.namespaces: unknown type {namespace.type!r} (one of {known})"
        )
    return kind


# %% New namespaces: which bits to ask clone for
def flags(namespaces: Iterable[Namespace]) -> Clone:
    """The bits of those namespaces that are to be made (the ones without a path).

    The cgroup namespace is left out: its root is the cgroup in which the
    process *is* when it asks, so the child joins its cgroup first and
    unshares then.
    """
    result = Clone(0)
    for namespace in namespaces:
        kind = kind_of(namespace)
        if kind.name == "time":
            raise NotSupported("linux.namespaces: time namespaces are not supported by MiniDock")
        if not namespace.path and kind.name != "cgroup":
            result |= kind.flag
    return result


def has_new(namespaces: Iterable[Namespace], name: str) -> bool:
    """Whether a namespace of the kind ``name`` is to be made."""
    return any(entry.type == name and not entry.path for entry in namespaces)


# %% Existing namespaces: a visit
@contextmanager
def joined(namespaces: Sequence[Namespace]) -> Iterator[None]:
    """Be in the namespaces that have a path during this block, so that a child is born there.

    The caller comes back to its own afterwards. For the pid namespace the
    kernel does what we want without a visit: setns(2) changes only where
    *children* are born.
    """
    with ExitStack() as way_back:
        for namespace in namespaces:
            if not namespace.path:
                continue
            kind = kind_of(namespace)
            name = "pid_for_children" if kind.name == "pid" else kind.file
            home = os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            way_back.callback(os.close, home)
            with steps.step(
                f"join the {kind.name} namespace",
                call="setns(2)",
                chapter="namespaces",
                path=namespace.path,
            ):
                _setns_path(namespace.path, kind)
            way_back.callback(setns, home, kind.flag)
        yield


def _setns_path(path: str, kind: Kind) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InvalidParameter(f"no {kind.name} namespace at {path}") from None
    try:
        setns(fd, kind.flag)
    finally:
        os.close(fd)


# %% User namespaces: who is who
def write_id_maps(pid: int, uids: Sequence[IDMapping], gids: Sequence[IDMapping]) -> None:
    """Tell the kernel which ids of the host the ids in the user namespace of ``pid`` are.

    One write per file, and only one ever: the kernel refuses a second.
    """
    with steps.step("map user and group ids", call="/proc/<pid>/uid_map", chapter="namespaces"):
        for name, maps in (("uid_map", uids), ("gid_map", gids)):
            lines = [f"{one.container_id} {one.host_id} {one.size}\n" for one in maps]
            Path(f"/proc/{pid}/{name}").write_text("".join(lines))


# %% Entering a running container
def enter(pid: int) -> None:
    """Move this process into all the namespaces of ``pid`` that are not its own already.

    Its user namespace comes first, as it grants the right to the others;
    joining the one we are in is an error (EINVAL), so equal ones are left
    out. The pid namespace takes effect for the next child.
    """
    wanted = Clone(0)
    for kind in KINDS:
        if kind.name != "time" and _identity(pid, kind) != _identity("self", kind):
            wanted |= kind.flag
    if not wanted:
        return
    with steps.step(
        "enter the container's namespaces",
        call="setns(2)",
        chapter="namespaces",
        flags=repr(wanted),
    ):
        pidfd = os.pidfd_open(pid)
        try:
            setns(pidfd, wanted)
        finally:
            os.close(pidfd)


def _identity(pid: int | str, kind: Kind) -> str:
    name = "pid_for_children" if kind.name == "pid" and pid == "self" else kind.file
    return os.readlink(f"/proc/{pid}/ns/{name}").partition(":")[2]


# %% A network namespace begins with its loopback down
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def bring_loopback_up() -> None:
    """``ip link set lo up``, with the ioctls of netdevice(7)."""
    from fcntl import ioctl

    with (
        steps.step(
            "bring the loopback device up",
            call="ioctl(2) SIOCSIFFLAGS",
            chapter="network",
        ),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket,
    ):
        request = struct.pack("16sH14x", b"lo", 0)
        _, now = struct.unpack("16sH14x", ioctl(any_socket, SIOCGIFFLAGS, request))
        ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", now | IFF_UP))
