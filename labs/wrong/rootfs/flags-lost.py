"""Remounts without repeating the flags that are there."""

# check: readonly
# expect: it has lost NOSUID NODEV NOEXEC
import os
from collections.abc import Sequence

from minidock.linux import syscalls
from minidock.linux.syscalls import Mount


def hide(masked: Sequence[str], readonly: Sequence[str]) -> None:
    for path in readonly:
        if os.path.exists(path):
            syscalls.mount(path, path, flags=Mount.BIND | Mount.REC)
            syscalls.mount("", path, flags=Mount.BIND | Mount.REMOUNT | Mount.RDONLY)
    for path in masked:
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", Mount.RDONLY, "size=0k")
        elif os.path.exists(path):
            syscalls.mount("/dev/null", path, flags=Mount.BIND)
