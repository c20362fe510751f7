"""Remounts the file system instead of the bind mount: all of /proc is read-only."""

# check: readonly
# expect: Read-only file system: '/proc/self/oom_score_adj'
import os
from collections.abc import Sequence

from minidock.linux import syscalls
from minidock.linux.syscalls import Mount


def hide(masked: Sequence[str], readonly: Sequence[str]) -> None:
    kept = Mount.NOSUID | Mount.NODEV | Mount.NOEXEC
    for path in readonly:
        if os.path.exists(path):
            syscalls.mount(path, path, flags=Mount.BIND | Mount.REC)
            syscalls.mount("", path, flags=Mount.REMOUNT | Mount.RDONLY | kept)
    for path in masked:
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", Mount.RDONLY, "size=0k")
        elif os.path.exists(path):
            syscalls.mount("/dev/null", path, flags=Mount.BIND)
