"""Makes / a slave, but not the mounts below it."""

# check: plain
# expect: it was not done recursively
from minidock.linux import syscalls
from minidock.linux.syscalls import Mount


def separate(rootfs: str, propagation: str = "") -> None:
    syscalls.mount("", "/", flags=Mount.SLAVE)
    syscalls.mount(rootfs, rootfs, flags=Mount.BIND | Mount.REC)
    syscalls.mount("", rootfs, flags=Mount.PRIVATE)
