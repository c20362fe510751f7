"""Forgets to unmount the old root (which lies on top, so it must first be moved away)."""

# check: old_root
# expect: the old root was not let go of
import os

from minidock.linux import syscalls


def pivot(rootfs: int, propagation: str = "") -> None:
    os.fchdir(rootfs)
    os.makedirs("tmp/old", exist_ok=True)
    syscalls.pivot_root(".", "tmp/old")
    os.chdir("/")
