"""Namespaces: what a process can see.

A namespace wraps one kind of global thing (process ids, mounts, network
devices, the host name, ...) so that the processes inside have their own. A
process is born into its parent's namespaces; ``clone(2)`` gives a child new
ones, ``setns(2)`` joins one that exists, and a file in ``/proc/<pid>/ns``
(or a bind mount of it) names one and keeps it alive.

The traps. A *pid* namespace holds the children of the process that asked
for it, never that process itself; a *time* namespace likewise. Who joins a
*user* namespace has every right in there and no way back, so joining is
done by a helper that is thrown away. The right to join is asked of the user
namespace that *owns* the other one: what the host owns must be joined
before, what the container owns after. And a user namespace is empty until
somebody outside writes its id maps: until then everybody in it is nobody.

**Interface:** :data:`KINDS`, :func:`flags`, :func:`needs_helper`,
:func:`join`, :func:`write_id_maps`, :func:`enter`,
:func:`bring_loopback_up`.

**See:** namespaces(7), user_namespaces(7), pid_namespaces(7),
time_namespaces(7), setns(2); OCI runtime specification, config-linux.md,
"Namespaces".
"""

import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from minidock import steps
from minidock.errors import Forbidden, InvalidParameter, Unavailable
from minidock.linux.syscalls import Clone, setns, unshare
from minidock.spec.runtime import IDMapping, Namespace, TimeOffset


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

    Two are left out. The cgroup namespace's root is the cgroup in which the
    process *is* when it asks, so the child joins its cgroup first and
    unshares then. And clone(2) has no room for the bit of the time
    namespace, which must have its offsets before anybody is in it.
    """
    result = Clone(0)
    for namespace in namespaces:
        kind = kind_of(namespace)
        if not namespace.path and kind.name not in ("cgroup", "time"):
            result |= kind.flag
    return result


def has_new(namespaces: Iterable[Namespace], name: str) -> bool:
    """Whether a namespace of the kind ``name`` is to be made."""
    return any(entry.type == name and not entry.path for entry in namespaces)


def has(namespaces: Iterable[Namespace], name: str) -> bool:
    """Whether the container is in a namespace of the kind ``name`` other than the caller's."""
    return any(entry.type == name for entry in namespaces)


def needs_helper(namespaces: Iterable[Namespace]) -> bool:
    """Whether the child cannot simply be cloned: it is to be born in namespaces that exist."""
    return any(entry.path or entry.type == "time" for entry in namespaces)


def harmless(namespaces: Iterable[Namespace]) -> bool:
    """Whether those that exist can be joined by who still has files to write and children to have."""
    kinds = {entry.type for entry in namespaces if entry.path}
    makes_time = any(entry.type == "time" for entry in namespaces)
    return kinds <= {"network", "ipc", "uts"} and not makes_time


# %% Existing namespaces: joining them
def join(namespaces: Sequence[Namespace]) -> None:
    """Move this process into the namespaces that have a path; there is no way back.

    All files are opened first: after the mount namespace is joined, the
    paths mean something else.
    """
    wanted = []
    for namespace in namespaces:
        if namespace.path:
            kind = kind_of(namespace)
            wanted.append((kind, _open(namespace.path, kind)))

    def enter_one(kind: Kind) -> None:
        setns(dict(wanted)[kind], kind.flag)

    _one_by_one([kind for kind, _ in wanted], enter_one)
    for _, fd in wanted:
        os.close(fd)


def _open(path: str, kind: Kind) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InvalidParameter(f"no {kind.name} namespace at {path}") from None


def _one_by_one(kinds: Sequence[Kind], enter_one: Callable[[Kind], None]) -> None:
    """First with the rights we have, then those that were refused with the user namespace's."""
    refused = []
    for kind in kinds:
        if kind.name != "user":
            try:
                _step(kind, enter_one)
            except PermissionError:
                refused.append(kind)
    if BY_NAME["user"] in kinds:
        _step(BY_NAME["user"], enter_one)
    for kind in refused:
        _step(kind, enter_one)


def _step(kind: Kind, enter_one: Callable[[Kind], None]) -> None:
    with steps.step(f"join the {kind.name} namespace", call="setns(2)", chapter="namespaces"):
        enter_one(kind)


# %% Time: clocks with an offset
def make_time_namespace(offsets: Mapping[str, TimeOffset]) -> None:
    """A time namespace for the children of this process: ``boottime`` and ``monotonic`` moved.

    The offsets can be written only while nobody is in it.
    """
    with steps.step("make a time namespace", call="unshare(2) CLONE_NEWTIME", chapter="namespaces"):
        unshare(Clone.NEWTIME)
        lines = [f"{name} {one.secs} {one.nanosecs}\n" for name, one in offsets.items()]
        if lines:
            _write("/proc/self/timens_offsets", "".join(lines))


def _write(path: str, text: str) -> None:
    """All in one write(2), as these files want it."""
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise OSError(error.errno, f"write(2) {text!r} to {path}: {error.strerror}") from None


# %% User namespaces: who is who
def write_id_maps(pid: int, uids: Sequence[IDMapping], gids: Sequence[IDMapping]) -> None:
    """Tell the kernel which ids of the host the ids in the user namespace of ``pid`` are.

    One write per file, and only one ever: the kernel refuses a second. Who
    has no rights over the host's ids may map just its own, and must first
    give up setgroups(2): to leave a group could *add* rights (a file that
    everybody but the group may read). For those that ``/etc/subuid`` grants a
    user, there are two programs with the right, which look there.
    """
    kinds = (
        ("uid_map", "newuidmap", uids, os.geteuid()),
        ("gid_map", "newgidmap", gids, os.getegid()),
    )
    with steps.step("map user and group ids", call="/proc/<pid>/uid_map", chapter="namespaces"):
        for name, program, maps, own in kinds:
            alone = [(one.host_id, one.size) for one in maps] == [(own, 1)]
            if os.geteuid() != 0 and not alone:
                _have_mapped(program, pid, maps)
                continue
            if os.geteuid() != 0 and name == "gid_map":
                _write(f"/proc/{pid}/setgroups", "deny")
            lines = [f"{one.container_id} {one.host_id} {one.size}\n" for one in maps]
            _write(f"/proc/{pid}/{name}", "".join(lines))


def _have_mapped(program: str, pid: int, maps: Sequence[IDMapping]) -> None:
    import subprocess

    words = [str(number) for one in maps for number in (one.container_id, one.host_id, one.size)]
    try:
        done = subprocess.run(
            [program, str(pid), *words], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise Unavailable(
            f"rootless containers with more than one id need {program}: apt-get install uidmap"
        ) from None
    if done.returncode != 0:
        raise Forbidden(f"{program} {' '.join(words)}: {done.stderr.strip()}")


# %% Entering a running container
def enter(pid: int) -> None:
    """Move this process into all the namespaces of ``pid`` that are not its own already.

    Joining the user namespace that we are in is an error (EINVAL), so equal
    ones are left out. The pid namespace takes effect for the next child. One
    call does it, unless somebody else than the container owns one of them.
    """
    foreign = [kind for kind in KINDS if _identity(pid, kind) != _identity("self", kind)]
    wanted = Clone(0)
    for kind in foreign:
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
        except PermissionError:
            _one_by_one(foreign, lambda kind: setns(pidfd, kind.flag))
        finally:
            os.close(pidfd)


def _identity(pid: int | str, kind: Kind) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind.file}").partition(":")[2]
    except FileNotFoundError:  # a kernel without this kind (time: before Linux 5.6)
        return ""


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
