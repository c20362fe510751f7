"""Forgets the masked paths."""

# check: masked
# expect: to be (empty|an empty directory)
import os
from collections.abc import Sequence

from minidock.linux import syscalls
from minidock.linux.syscalls import Mount
from minidock.rootfs import remount


def hide(masked: Sequence[str], readonly: Sequence[str]) -> None:
    for path in readonly:
        if os.path.exists(path):
            syscalls.mount(path, path, flags=Mount.BIND | Mount.REC)
            remount(path, Mount.RDONLY)
