"""The file system identity of a thread: as whom it makes files, and nothing else.

Besides its user and group ids, a thread has a second pair that counts only
for files. It was made for file servers, which act for many users and must
not be killed by any of them.

The traps. setfsuid(2) reports no error: one has to look afterwards. And a
change away from root takes the capabilities over files out of the effective
set; they are still permitted, so they can be put back.

**Interface:** :func:`act_in_files_as`.

**See:** setfsuid(2), credentials(7), capabilities(7) "Effect of user ID changes".
"""

import ctypes
import errno
import os

from minidock.linux.syscalls import capset

_libc = ctypes.CDLL(None)


# %% Whose files
def act_in_files_as(uid: int, gid: int) -> None:
    """From now on this *thread* makes files as ``uid`` and ``gid``, with its rights as before."""
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))
    if (_libc.setfsuid(ctypes.c_int(-1)), _libc.setfsgid(ctypes.c_int(-1))) != (uid, gid):
        raise OSError(errno.EPERM, f"setfsuid(2) {uid}: {os.strerror(errno.EPERM)}")
    permitted = _permitted()
    capset(permitted, permitted, 0)


def _permitted() -> int:
    with open("/proc/thread-self/status") as status:
        line = next(line for line in status if line.startswith("CapPrm:"))
    return int(line.split()[1], 16)
