"""chroot(2) instead of pivot_root(2): the old root stays the root of the namespace."""

# check: pivoted
# expect: it finds the host's: a chroot changes one process
import os


def pivot(rootfs: int, propagation: str = "") -> None:
    os.fchdir(rootfs)
    os.chroot(".")
    os.chdir("/")
