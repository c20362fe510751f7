"""Hints for the lab ``rootfs``."""

from collections.abc import Iterator

from labs.bench import Bench, Wrong, command, mounts


# %% separate() and pivot()
def pivoted(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """EINVAL has two usual causes, and both can be seen."""
    yield "The order is: separate() before anything is mounted, pivot() after all is mounted."
    if "Invalid argument" in wrong.said:
        shared = [line[4] for line in mounts() if any(word.startswith("shared:") for word in line)]
        yield (
            f"pivot_root(2) says EINVAL when the root or its parent is shared; here {len(shared)} "
            f"mounts are, {shared[0]} among them. Did separate() make them slaves, recursively?"
        )
    if "busy" in wrong.said:
        yield 'umount2(2) says EBUSY because our own files are open there: MNT_DETACH ("lazy").'
    yield 'os.fchdir(rootfs), pivot_root(".", "."), umount(".", Umount.DETACH), os.chdir("/").'


def old_root(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """What the container still has."""
    yield "After pivot_root(2) the old root is still mounted: put_old says where."
    for identity in command("minidock", "ps", "-q").out.split()[:1]:
        pid = command("minidock", "inspect", "-f", "{{.State.Pid}}", identity).out.strip()
        yield f"The container's mountinfo has {len(mounts(pid))} lines; ours has {len(mounts())}."
    yield 'With pivot_root(".", ".") it lies on top of the new one: umount(".", Umount.DETACH).'


def plain(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """It must be a mount point."""
    yield "pivot_root(2): “new_root must be a path to a mount point”. How can any directory be made one?"
    yield "mount(rootfs, rootfs, flags=Mount.BIND | Mount.REC)."


def slave(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Slave or private."""
    yield "A private mount hears nothing of the host, a slave hears and does not speak."
    yield 'PROPAGATION["rslave"], unless propagation is private or rprivate.'


# %% hide()
def readonly(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Three calls."""
    yield "open_tree(2) clones the mount, mount_setattr(2) changes it, move_mount(2) attaches it."
    yield "set_attributes(tree, Attribute.RDONLY, recursive=True): what is not named stays as it is."


def masked(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Files and directories."""
    yield "A directory cannot be covered by a file (ENOTDIR): /dev/null for files, a tmpfs for directories."
    yield 'mount("tmpfs", path, "tmpfs", Mount.RDONLY, "size=0k").'
