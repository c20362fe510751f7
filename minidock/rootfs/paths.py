"""Paths in a tree that a stranger made.

Where a mount goes is a path in the image, and every part of it may be a
symbolic link that its author made: ``/data`` → ``/../../etc``. The kernel
can resolve a path as if a directory were the root (``openat2(2)`` with
RESOLVE_IN_ROOT), and nothing leads out; what it gives is an open file, and
we work on that, for the name could mean something else a moment later.

The trap within the trap is ``/proc``: whoever mounts something on
``/proc/self/attr`` or replaces ``/proc`` by a link can make the runtime
write its security settings nowhere (CVE-2019-16884, CVE-2023-27561). So
nothing is mounted in there but a few files that LXCFS fills with the
container's own numbers.

**Interface:** :func:`opened`, :func:`inside`, :func:`make_mount_point`,
:func:`check_target`, :func:`check_ordinary_directory`.

**See:** openat2(2); CVE-2021-30465.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from minidock.errors import InvalidParameter
from minidock.linux import syscalls
from minidock.linux.syscalls import Resolve

PROC_SUPER_MAGIC = 0x9FA0

ALLOWED_IN_PROC = frozenset(
    ["cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo"]
    + ["net/dev", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"]
)


# %% Opening
@contextmanager
def opened(rootfs: int, path: str, flags: int = os.O_PATH) -> Iterator[int]:
    """``path`` of the container as an open file, resolved with ``rootfs`` as its root.

    A link in it is followed as the container would follow it; none leads out.
    """
    fd = syscalls.openat2(rootfs, path.lstrip("/") or ".", flags, resolve=Resolve.IN_ROOT)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def inside(rootfs: int, path: str, flags: int = os.O_PATH) -> Iterator[str]:
    """The same as a path for calls that want one: ``/proc/self/fd/N``."""
    with opened(rootfs, path, flags) as fd:
        yield f"/proc/self/fd/{fd}"


# %% Making what is to be mounted on
def make_mount_point(rootfs: int, path: str, directory: bool) -> None:
    """Make ``path`` in the container if it is missing: a directory, or an empty file."""
    parent, _, name = path.strip("/").rpartition("/")
    if not name:
        if not directory:
            raise InvalidParameter("config tries to change rootfs to file: file bind-mount over /")
        return
    try:
        with opened(rootfs, path):
            return
    except FileNotFoundError:
        pass
    if parent:
        make_mount_point(rootfs, parent, directory=True)
    with inside(rootfs, parent) as place:
        where = f"{place}/{name}"
        if os.path.islink(where):  # it points to what does not exist: make that
            _make_target(rootfs, parent, os.readlink(where), directory)
        elif directory:
            os.mkdir(where, 0o755)
        else:  # mknod(2) opens nothing: what is there may be a device that hangs
            os.mknod(where, stat.S_IFREG | 0o644)


def _make_target(rootfs: int, parent: str, target: str, directory: bool) -> None:
    path = os.path.normpath(os.path.join("/", parent, target))
    make_mount_point(rootfs, path.lstrip("/"), directory)


# %% Where nothing may be mounted
def check_ordinary_directory(rootfs: int, path: str, kind: str) -> None:
    """``proc`` and ``sysfs`` go to a directory of just that name, not through a link."""
    flags, resolve = os.O_PATH | os.O_NOFOLLOW, Resolve.NO_SYMLINKS | Resolve.BENEATH
    try:
        fd = syscalls.openat2(rootfs, path.strip("/") or ".", flags, resolve=resolve)
    except FileNotFoundError:
        return
    except OSError:
        fd = -1
    ordinary = fd >= 0 and stat.S_ISDIR(os.fstat(fd).st_mode)
    if fd >= 0:
        os.close(fd)
    if not ordinary:
        raise InvalidParameter(f'filesystem "{kind}" must be mounted on ordinary directory: {path}')


def check_target(rootfs: int, target: int, destination: str, proc: bool) -> None:
    """Refuse the open ``target`` if it lies in the container's ``/proc``; ``proc``: the source is one."""
    root = os.readlink(f"/proc/self/fd/{rootfs}").rstrip("/")
    place = os.readlink(f"/proc/self/fd/{target}")
    if place == f"{root}/proc":
        if not proc:
            raise InvalidParameter(
                f'"{destination}" cannot be mounted because it is not of type proc'
            )
        return
    if place.startswith(f"{root}/proc/") and place[len(root) + 6 :] not in ALLOWED_IN_PROC:
        raise InvalidParameter(f'"{destination}" cannot be mounted because it is inside /proc')
