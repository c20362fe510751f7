"""Unmounts the old root while it is in use, without MNT_DETACH."""

# check: pivoted
# expect: umount2\(2\) \.: Device or resource busy
import os

from minidock.linux import syscalls


def pivot(rootfs: int, propagation: str = "") -> None:
    os.fchdir(rootfs)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    os.chdir("/")
