"""Device nodes: what every program expects in ``/dev``.

A device node is a name for a driver: type, major and minor number. A
container has six that are harmless, those it was given, and some links. It
may make others (CAP_MKNOD) but not open them: that is for the cgroup to
decide.

The traps. ``mknod(2)`` obeys the umask, the specification does not. In a
user namespace it is refused altogether, so the host's nodes are bind
mounted. And ``/dev/ptmx`` is no device here but a link into the container's
own devpts, whatever the configuration says.

**Interface:** :func:`make_devices`, :data:`DEVICES`, :data:`ALLOWED`.

**See:** mknod(2), null(4), pts(4); OCI runtime specification,
config-linux.md, "Devices" and "Default Devices".
"""

import os
import stat
from collections.abc import Sequence

from minidock import steps
from minidock.errors import InvalidParameter
from minidock.linux.mountapi import move_mount, open_tree
from minidock.rootfs.paths import inside, make_mount_point, opened
from minidock.spec import runtime as oci

# %% The devices of every container
DEVICES = (
    oci.Device("c", "/dev/null", 1, 3, 0o666),
    oci.Device("c", "/dev/zero", 1, 5, 0o666),
    oci.Device("c", "/dev/full", 1, 7, 0o666),
    oci.Device("c", "/dev/random", 1, 8, 0o666),
    oci.Device("c", "/dev/urandom", 1, 9, 0o666),
    oci.Device("c", "/dev/tty", 5, 0, 0o666),
)

ALLOWED = (  # what may be made, and what may be opened
    oci.DeviceRule(True, "c", None, None, "m"),
    oci.DeviceRule(True, "b", None, None, "m"),
    *(oci.DeviceRule(True, "c", device.major, device.minor) for device in DEVICES),
    oci.DeviceRule(True, "c", 5, 1),  # /dev/console
    oci.DeviceRule(True, "c", 136, None),  # /dev/pts/*
    oci.DeviceRule(True, "c", 5, 2),  # /dev/ptmx
)

LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}

TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


# %% Making them
def make_devices(rootfs: int, more: Sequence[oci.Device], in_user_namespace: bool = False) -> None:
    """The devices every program expects, those of the configuration, and the usual links."""
    chosen = {device.path: device for device in (*DEVICES, *more) if device.path not in LINKS}
    with steps.step(
        "make the device nodes",
        call="mknod(2)",
        chapter="rootfs",
        devices=" ".join(chosen),
    ):
        for device in chosen.values():
            if in_user_namespace and device.type != "p":
                _borrow(rootfs, device.path)
            else:
                _make(rootfs, device)
        for path, target in LINKS.items():
            _link(rootfs, path, target)


def _make(rootfs: int, device: oci.Device) -> None:
    kind = TYPES.get(device.type)
    if kind is None:
        raise InvalidParameter(f"linux.devices: {device.path}: unknown type {device.type!r}")
    parent, _, name = device.path.rpartition("/")
    make_mount_point(rootfs, parent, directory=True)
    with inside(rootfs, parent) as directory:
        path = f"{directory}/{name}"
        if os.path.lexists(path):
            os.unlink(path)
        mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        os.mknod(path, kind | mode, os.makedev(device.major, device.minor))
        os.chmod(path, mode)
        os.chown(path, device.uid or 0, device.gid or 0, follow_symlinks=False)


def _borrow(rootfs: int, path: str) -> None:
    """Bind mount the host's node."""
    make_mount_point(rootfs, path, directory=False)
    node = open_tree(path)
    try:
        with opened(rootfs, path) as target:
            move_mount(node, target, path)
    finally:
        os.close(node)


def _link(rootfs: int, path: str, target: str) -> None:
    make_mount_point(rootfs, "/dev", directory=True)
    with inside(rootfs, "/dev") as dev:
        name = f"{dev}/{os.path.basename(path)}"
        if not os.path.lexists(name):
            os.symlink(target, name)
