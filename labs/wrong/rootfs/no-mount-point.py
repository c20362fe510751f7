"""Takes for granted that the root file system is a mount point."""

# check: plain
# expect: the new root to be a mount point after separate
from minidock.linux import syscalls
from minidock.linux.syscalls import Mount


def separate(rootfs: str, propagation: str = "") -> None:
    syscalls.mount("", "/", flags=Mount.SLAVE | Mount.REC)
