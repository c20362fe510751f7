"""Writing to ``/proc``, and to nothing else.

Much of what a process may ask of the kernel is asked by writing into
``/proc``: kernel parameters, security labels, scores. In a container ``/proc``
is a path in a tree that a stranger made, and shares with friends: if
another container mounts something else there at the right moment, or lays
one file of ``/proc`` over another, the write goes astray. What was to be a
label becomes a crash by ``sysrq-trigger`` (CVE-2025-52881).

So the root of the file system is opened first and asked what it is, and the
kernel walks from there without leaving it: no magic link, no other mount.

**Interface:** :func:`write`.

**See:** openat2(2) RESOLVE_NO_XDEV; proc(5); <linux/magic.h>.
"""

import os

from minidock.errors import Forbidden
from minidock.linux.syscalls import Resolve, filesystem_type, openat2

PROC_SUPER_MAGIC, PROC_ROOT_INODE = 0x9FA0, 1


# %% One write
def write(path: str, text: str) -> None:
    """Write ``text`` in one write(2) to ``path`` (relative to ``/proc``).

    Raises :class:`OSError` as open and write do (EXDEV if something is
    mounted over it), :class:`Forbidden` if ``/proc`` is no proc.
    """
    root = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if (filesystem_type(root), os.fstat(root).st_ino) != (PROC_SUPER_MAGIC, PROC_ROOT_INODE):
            raise Forbidden(f"/proc is not a proc file system: {path} is not written")
        where = Resolve.BENEATH | Resolve.NO_XDEV | Resolve.NO_MAGICLINKS
        fd = openat2(root, path, os.O_WRONLY, resolve=where)
    finally:
        os.close(root)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
