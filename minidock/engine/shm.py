"""Lent memory: ``/dev/shm`` of a container whose IPC namespace others may join.

POSIX shared memory is files on a tmpfs, and a mount made in the container
could not be seen by another. So for ``--ipc shareable`` the engine mounts the
tmpfs out here, in the container's directory, and both bind it.

**Interface:** :func:`lend`, :func:`take_back`.

**See:** shm_overview(7); moby ``daemon/container_operations_unix.go``,
``setupContainerMountsRoot`` and ``mountShm``.
"""

import os
from contextlib import suppress

from minidock import steps
from minidock.engine.container import Container
from minidock.linux.syscalls import Mount, Umount, mount, umount


# %% Mounting and unmounting it
def lend(container: Container) -> None:
    """Mount it, if this container is one that lends."""
    host = container.host_config
    if host["IpcMode"] != "shareable":
        return
    place = container.directory / "shm"
    with steps.step("mount the shared memory", call="mount(2) tmpfs", chapter="namespaces") as step:
        place.mkdir(mode=0o700, exist_ok=True)
        step.undo(take_back, container)
        flags = Mount.NOSUID | Mount.NODEV | Mount.NOEXEC
        mount("shm", place, "tmpfs", flags, f"mode=1777,size={host['ShmSize']}")


def take_back(container: Container) -> None:
    """Unmount it; borrowers keep what they have. It may have been done already."""
    place = container.directory / "shm"
    if container.host_config["IpcMode"] == "shareable" and os.path.ismount(place):
        with suppress(FileNotFoundError):
            umount(place, Umount.DETACH)
