"""Takes for granted that every kernel has every path."""

# check: readonly
# expect: mount\(2\) \S+ on \S+ .*No such file or directory
import os
from collections.abc import Sequence

from minidock.linux import syscalls
from minidock.linux.syscalls import Mount
from minidock.rootfs import remount


def hide(masked: Sequence[str], readonly: Sequence[str]) -> None:
    for path in readonly:
        syscalls.mount(path, path, flags=Mount.BIND | Mount.REC)
        remount(path, Mount.RDONLY)
    for path in masked:
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", Mount.RDONLY, "size=0k")
        else:
            syscalls.mount("/dev/null", path, flags=Mount.BIND)
