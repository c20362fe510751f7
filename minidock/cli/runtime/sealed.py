"""An interpreter that cannot be written to, for the commands that put it into a container.

Until the container's program runs, its process is *us*, and ``/proc/self/exe``
is the host's Python. An image whose program is ``/proc/self/exe`` (or a script
with that after its ``#!``) has it started once more, inside, with the image's
own C library; and that may open it for writing, as root, by the host's mount.
Whoever starts Python on the host afterwards, starts what was written
(CVE-2019-5736). Who is sealed, can lend it without worry.

So the first thing is to execute ourselves again from a mount that is
read-only and nowhere, so that nobody in any container can make it writable.
Where that is not for us to make (without root), a sealed copy in memory does
it, as in runc; it is dearer.

The trap is the time: Python starts twice, 7 ms each. So the first one loads
next to nothing; even :mod:`ctypes`, for two system calls, would double that.

**Interface:** :func:`seal`.

**See:** open_tree(2), mount_setattr(2), memfd_create(2), F_ADD_SEALS in
fcntl(2); runc ``libcontainer/exeseal``.
"""

from __future__ import annotations

import os
import sys
from _ctypes import call_function, dlopen, dlsym

US = "/proc/self/exe"
SHOWN = frozenset(["create", "run", "exec"])  # the commands that execute a program in a container

OPEN_TREE, MOUNT_SETATTR = 428, 442
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
OPEN_TREE_CLONE, MOUNT_ATTR_RDONLY = 1, 1
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEALS = 0xF  # no other seals, not shorter, not longer, not written


# %% Once more, if need be
def seal(arguments: list[str]) -> None:
    """Come back from here only as a program that nobody can write to."""
    if not SHOWN & set(arguments) or _is_sealed():
        return
    interpreter = _readonly_mount()
    if interpreter < 0:
        interpreter = _sealed_copy()
    os.execve(f"/proc/self/fd/{interpreter}", sys.orig_argv, os.environ)


def _is_sealed() -> bool:
    if os.statvfs(US).f_flag & os.ST_RDONLY:
        return True
    if not os.readlink(US).startswith("/memfd:"):
        return False
    import fcntl

    fd = os.open(US, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(fd, F_GET_SEALS) & SEALS == SEALS
    finally:
        os.close(fd)


def _readonly_mount() -> int:
    """The interpreter through a mount of its own; -1 if that is not permitted."""
    syscall = dlsym(dlopen(None, 2), "syscall")  # type: ignore[arg-type]
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC
    mount = call_function(syscall, (OPEN_TREE, AT_FDCWD, US.encode(), flags))
    if mount < 0:
        return -1
    attributes = MOUNT_ATTR_RDONLY.to_bytes(8, sys.byteorder) + bytes(24)
    setting = (MOUNT_SETATTR, mount, b"", AT_EMPTY_PATH, attributes, len(attributes))
    return -1 if call_function(syscall, setting) < 0 else int(mount)


def _sealed_copy() -> int:
    import fcntl

    copy = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    source = os.open(US, os.O_RDONLY | os.O_CLOEXEC)
    left = os.fstat(source).st_size
    while left:
        left -= os.sendfile(copy, source, None, left)
    os.close(source)
    fcntl.fcntl(copy, F_ADD_SEALS, SEALS)
    return copy
