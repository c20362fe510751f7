"""What is hidden from a container, and what it may only read.

Not everything in ``/proc`` and ``/sys`` belongs to a namespace. What tells
about the host is covered, by a mount: a file by ``/dev/null``, a directory
by an empty tmpfs. What would change the host is mounted over itself,
read-only.

The trap: the cover for a file is the container's ``/dev/null``, and the
container's image may have put something else there (CVE-2025-31133). So it
is opened once, looked at, and that very file is used.

**Interface:** :func:`hide`, :data:`MASKED_PATHS`, :data:`READONLY_PATHS`.

**See:** proc(5); OCI runtime specification, config-linux.md, "Masked
Paths", "Readonly Paths".
"""

import os
import stat
from collections.abc import Sequence

from minidock import steps
from minidock.errors import Forbidden
from minidock.linux import syscalls
from minidock.linux.mountapi import Attribute, move_mount, open_tree, set_attributes
from minidock.linux.syscalls import Mount

# %% Docker's lists
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)

READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


# %% Hiding
def hide(masked: Sequence[str], readonly: Sequence[str]) -> None:
    """Cover ``masked`` and protect ``readonly``; what is not there needs neither.

    Called after the pivot, so the paths are the container's.
    """
    with steps.step("protect parts of /proc and /sys", call="mount(2)", chapter="rootfs"):
        for path in readonly:
            _over(path, path, readonly=True)
        for path in masked:
            if os.path.isdir(path):
                syscalls.mount("tmpfs", path, "tmpfs", Mount.RDONLY, "size=0k")
            elif os.path.lexists(path):
                _over(path, "/dev/null", readonly=False)


def _over(path: str, source: str, readonly: bool) -> None:
    """Mount ``source`` over ``path``, if there is such a path."""
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        tree = _open(source, readonly)
        try:
            move_mount(tree, target, path)
        finally:
            os.close(tree)
    finally:
        os.close(target)


def _open(source: str, readonly: bool) -> int:
    tree = open_tree(source, recursive=readonly)
    if readonly:
        set_attributes(tree, Attribute.RDONLY, recursive=True)
        return tree
    found = os.fstat(tree)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        os.close(tree)
        raise Forbidden("/dev/null of the container is not the null device: it cannot cover paths")
    return tree
