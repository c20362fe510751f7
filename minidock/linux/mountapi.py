"""The new mount API: mounts as open files.

``mount(2)`` makes a mount and attaches it in one act, so a bind mount is
writable for a moment before a second call makes it read-only. Since Linux
5.2 the acts are apart: ``open_tree(2)`` clones a mount that is nowhere yet
and gives an open file for it, ``mount_setattr(2)`` changes just the
attributes that are named, and ``move_mount(2)`` attaches the result where it
belongs. An open file can also be handed to another process: the runtime
opens what only the host may see, the container attaches it.

The trap: the access time is not a set of flags but one number of several
bits. To change it, all its bits must be named as cleared.

**Interface:** :func:`open_tree`, :func:`set_attributes`, :func:`move_mount`,
:class:`Attribute`, :func:`readonly_clone`.

**See:** open_tree(2), mount_setattr(2), move_mount(2); the kernel's
``Documentation/filesystems/idmappings.rst``.
"""

import ctypes
import os
from enum import IntFlag

from minidock.linux.syscalls import StrPath, raw

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000


# %% Attributes of a mount
class Attribute(IntFlag):
    """MOUNT_ATTR_*; ``ATIME`` are all the bits that say how access times are kept."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    NOATIME = 0x10
    STRICTATIME = 0x20
    ATIME = 0x70
    NODIRATIME = 0x80
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]  # noqa: RUF012


def set_attributes(
    mount: int,
    on: int = 0,
    off: int = 0,
    recursive: bool = False,
    userns: int = -1,
    propagation: int = 0,
) -> None:
    """Switch attributes of the open ``mount`` on and off; with ``recursive`` of all below it, too.

    ``userns`` is an open user namespace, whose id maps the mount then
    applies to the owners of its files (with ``Attribute.IDMAP`` in ``on``).
    ``propagation`` is one of ``Mount.SHARED`` and its kin, or 0: as it is.
    """
    given = _Attributes(on, off, propagation, max(userns, 0))
    raw(
        "mount_setattr",
        ctypes.c_int(mount),
        b"",
        ctypes.c_uint(AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)),
        ctypes.byref(given),
        ctypes.c_size_t(ctypes.sizeof(given)),
        call=f"mount_setattr(2) +{Attribute(on)!r} -{Attribute(off)!r}",
    )


# %% Cloning and attaching
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x1, 0x4, 0x40


def open_tree(path: StrPath, recursive: bool = False, directory: int = AT_FDCWD) -> int:
    """An open file: a bind mount of ``path`` (with what is mounted below it) that is nowhere yet.

    With ``directory`` an open file and ``path`` empty, it is that file. What
    is never attached goes away with the last file opened through it.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC
    flags |= AT_RECURSIVE if recursive else 0
    flags |= 0 if os.fspath(path) else AT_EMPTY_PATH
    return raw(
        "open_tree",
        ctypes.c_int(directory),
        os.fsencode(path),
        ctypes.c_uint(flags),
        call=f"open_tree(2) {os.fspath(path)}",
    )


def move_mount(mount: int, target: int, where: str = "") -> None:
    """Attach the open ``mount`` at the open file ``target``; ``where`` is for the error."""
    raw(
        "move_mount",
        ctypes.c_int(mount),
        b"",
        ctypes.c_int(target),
        b"",
        ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
        call=f"move_mount(2) {where}".rstrip(),
    )


# %% A read-only view of one file
def readonly_clone(path: StrPath) -> int:
    """An open file: ``path``, seen through a mount of its own that nobody can write through."""
    fd = open_tree(path)
    try:
        set_attributes(fd, Attribute.RDONLY)
    except OSError:
        os.close(fd)
        raise
    return fd
