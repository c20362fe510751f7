"""Cuts nothing off: the mounts of the new namespace are still shared with the host's."""

# check: plain
# expect: mountinfo says that / still is shared
from minidock.linux import syscalls
from minidock.linux.syscalls import Mount


def separate(rootfs: str, propagation: str = "") -> None:
    syscalls.mount(rootfs, rootfs, flags=Mount.BIND | Mount.REC)
