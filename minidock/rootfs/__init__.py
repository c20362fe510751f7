"""The root file system: what a container believes the disk to be.

A new mount namespace is a copy of the old one, so a container begins by
seeing everything that the host has mounted. It then builds its own tree
below one directory, makes that directory the root with ``pivot_root(2)``,
and lets go of the old root; what is not mounted below it cannot be named
any more.

The traps. Mount events *propagate*: on a host whose ``/`` is shared, as
systemd makes it, an unmount in here would happen out there too, and
``pivot_root`` refuses (EINVAL), so the first act is to make everything a
slave. And a mount's destination is a path in a tree that a stranger made:
every ``/`` of it may be a link to the host, so the kernel resolves it
(openat2) and we mount on the open file.

**Interface:** :func:`separate`, :func:`pivot`, :func:`move_root`,
:func:`change_root`, :func:`make_readonly`; :mod:`.mounts` for what the
configuration lists, :mod:`.devices` for ``/dev``, :mod:`.hiding` for what
is covered.

**See:** mount_namespaces(7), pivot_root(2), mount(2), openat2(2); OCI
runtime specification, config.md "Root" and config-linux.md "Rootfs Mount
Propagation"; runc ``libcontainer/rootfs_linux.go``.
"""

import os
from contextlib import suppress

from minidock import steps
from minidock.errors import InvalidParameter
from minidock.linux import syscalls
from minidock.linux.mountapi import Attribute, set_attributes
from minidock.linux.syscalls import Mount, Umount
from minidock.rootfs.options import PROPAGATION


# %% Cutting the new mount namespace off from the old one
def separate(rootfs: str, propagation: str = "") -> None:
    """Stop our mounts from reaching the host, and make ``rootfs`` a mount point.

    A slave still lets the host's mounts come in (a USB stick that appears
    below a bind mount), ``private`` and ``rprivate`` do not. Anything shared
    must wait until after the pivot, which refuses it. pivot_root(2) wants
    its new root to be a mount point, hence the bind mount of ``rootfs`` on
    itself.
    """
    if propagation and propagation not in PROPAGATION:
        known = ", ".join(PROPAGATION)
        raise InvalidParameter(
            f"linux.rootfsPropagation: unknown value {propagation!r} (one of {known})"
        )
    kind = "rprivate" if propagation in ("private", "rprivate") else "rslave"
    with steps.step(
        "make all mounts slaves", call="mount(2) MS_REC|MS_SLAVE on /", chapter="rootfs", kind=kind
    ):
        syscalls.mount("", "/", flags=PROPAGATION[kind])
    with steps.step(
        "make the root file system a mount point",
        call="mount(2) MS_BIND",
        chapter="rootfs",
        rootfs=rootfs,
    ):
        syscalls.mount(rootfs, rootfs, flags=Mount.BIND | Mount.REC)
        syscalls.mount("", rootfs, flags=Mount.PRIVATE)


# %% pivot_root
def pivot(rootfs: int, propagation: str = "") -> None:
    """Make the directory ``rootfs`` the root, and let go of the old one.

    ``pivot_root(".", ".")`` stacks the old root on top of the new one at the
    same place, so that no directory has to be made for it (an idea of LXC's
    developers, documented in pivot_root(2)); unmounting it then takes it off.
    We go there first, for "." must mean the old root and not the new one
    below it. MNT_DETACH, because we still have files of it open.
    """
    with steps.step("pivot the root", call="pivot_root(2)", chapter="rootfs"):
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(rootfs)
        syscalls.pivot_root(".", ".")
    with steps.step("let go of the old root", call="umount2(2) MNT_DETACH", chapter="rootfs"):
        os.fchdir(old)
        os.close(old)
        syscalls.mount("", ".", flags=Mount.SLAVE | Mount.REC)
        syscalls.umount(".", Umount.DETACH)
        os.chdir("/")
    if propagation:
        syscalls.mount("", "/", flags=PROPAGATION[propagation])


# %% Without pivot_root
def move_root(rootfs: int) -> None:
    """``--no-pivot``, for a root on a ramdisk, which cannot be pivoted: move the mount over ``/``.

    chroot(2) is all that then holds the container, and the old ``/proc`` and
    ``/sys`` are still mounted below: whoever finds a way there would have a
    ``/proc`` without masks. So they go first.
    """
    with steps.step("move the root", call="mount(2) MS_MOVE, chroot(2)", chapter="rootfs"):
        os.fchdir(rootfs)
        ours = os.getcwd()
        for place in reversed(_mounted("proc", "sysfs")):
            if place != ours and not place.startswith(f"{ours}/"):
                syscalls.mount("", place, flags=Mount.SLAVE | Mount.REC)
                _cover(place)
        syscalls.mount(ours, "/", flags=Mount.MOVE)
        change_root()


def _cover(place: str) -> None:
    try:
        syscalls.umount(place, Umount.DETACH)
    except OSError:  # locked, as all mounts of the host are in a user namespace
        syscalls.mount("tmpfs", place, "tmpfs", Mount.RDONLY)


def _mounted(*kinds: str) -> list[str]:
    """Where file systems of these kinds are mounted, in the order of mounting."""
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            if right.split()[0] in kinds:
                found.append(left.split()[4])
    return found


def change_root() -> None:
    """chroot(2) to the current directory: for a container without a mount namespace of its own."""
    os.chroot(".")
    os.chdir("/")


# %% The root itself, read-only
def make_readonly() -> None:
    """``--read-only``: the root mount itself; what is mounted below keeps its own flags."""
    with steps.step(
        "make the root read-only",
        call="mount_setattr(2) MOUNT_ATTR_RDONLY",
        chapter="rootfs",
    ):
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            set_attributes(root, Attribute.RDONLY)
        finally:
            os.close(root)


def reopen_null() -> None:
    """Standard streams that are the host's ``/dev/null`` become the container's: a door less."""
    with suppress(FileNotFoundError):
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        ours = os.fstat(null)
        for fd in (0, 1, 2):
            if os.fstat(fd).st_rdev == ours.st_rdev != 0:
                os.dup2(null, fd)
        os.close(null)
