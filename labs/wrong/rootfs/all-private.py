"""Makes everything private: also what was asked to stay a slave of the host."""

# check: slave
# expect: the mounts were made private
from minidock.linux import syscalls
from minidock.linux.syscalls import Mount


def separate(rootfs: str, propagation: str = "") -> None:
    syscalls.mount("", "/", flags=Mount.PRIVATE | Mount.REC)
    syscalls.mount(rootfs, rootfs, flags=Mount.BIND | Mount.REC)
