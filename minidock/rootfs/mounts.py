"""Mounting what the configuration lists, in its order.

A file system that is new (``proc``, ``tmpfs``) is one call of ``mount(2)``.
A *bind* mount shows a directory that exists at a second place; it is cloned
as an open file, gets its attributes while nobody can see it, and is then
attached where it belongs, so it is read-only from its first moment.

The traps. A tmpfs that shall be read-only must be filled first (``/dev``
with its devices), so that flag waits until the end. What only the host may
open (a directory that root of a user namespace cannot enter, the id maps of
an idmapped mount) was opened by our parent, and comes as a file descriptor.
And nothing but proc may be mounted in ``/proc``.

**Interface:** :func:`mount_all`, :func:`finish_readonly`, :class:`Given`.

**See:** mount(2), move_mount(2); OCI runtime specification, config.md,
"Mounts"; runc ``libcontainer/rootfs_linux.go``.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from minidock import steps
from minidock.errors import NotFound
from minidock.linux import syscalls
from minidock.linux.mountapi import Attribute, move_mount, open_tree, set_attributes
from minidock.linux.syscalls import Mount
from minidock.rootfs import controlgroups
from minidock.rootfs.options import Change, Options
from minidock.rootfs.paths import (
    PROC_SUPER_MAGIC,
    check_ordinary_directory,
    check_target,
    inside,
    make_mount_point,
    opened,
)
from minidock.spec import runtime as oci


# %% What the runtime knows beside the configuration
@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """``trees``: mounts opened by our parent, by their place in the list; ``cgroups``: see there."""

    in_user_namespace: bool = False
    trees: dict[int, int] = field(default_factory=dict)
    cgroups: dict[str, str] | None = None


def mount_all(rootfs: int, mounts: Sequence[oci.Mount], given: Given) -> None:
    """Make all ``mounts`` of the configuration below the directory ``rootfs``."""
    for number, entry in enumerate(mounts):
        options = Options(entry.options)
        bind = entry.type == "bind" or bool(options.flags & Mount.BIND)
        with steps.step(
            f"mount {entry.destination}",
            call="move_mount(2)" if bind else f"mount(2) {entry.type}",
            chapter="rootfs",
            source=entry.source,
            options=",".join(entry.options),
        ):
            if bind:
                _bind(rootfs, entry, options, given.trees.get(number))
            else:
                _mount(rootfs, entry, options, given)
            _propagate(rootfs, entry.destination, options)


def _propagate(rootfs: int, destination: str, options: Options) -> None:
    """``shared`` and its like are not flags of the mount but each a call of its own."""
    for propagation in options.propagation:
        with inside(rootfs, destination) as target:
            syscalls.mount("", target, flags=propagation)


# %% New file systems
def _mount(rootfs: int, entry: oci.Mount, options: Options, given: Given) -> None:
    if entry.type == "cgroup":
        controlgroups.mount(rootfs, entry.destination, options, given.cgroups)
        return
    if entry.type in ("proc", "sysfs"):
        check_ordinary_directory(rootfs, entry.destination, entry.type)
    if _waits_for_readonly(entry):
        options.flags &= ~Mount.RDONLY
    if given.in_user_namespace and entry.type in ("sysfs", "mqueue"):
        _mount_or_bind(rootfs, entry, options)
    else:
        mount_new(rootfs, entry, options)
    if options.everywhere:
        with opened(rootfs, entry.destination, os.O_PATH) as target:
            set_attributes(target, options.everywhere.on, options.everywhere.off, recursive=True)


def mount_new(rootfs: int, entry: oci.Mount, options: Options) -> None:
    """mount(2) of a file system that was not there before."""
    make_mount_point(rootfs, entry.destination, directory=True)
    with opened(rootfs, entry.destination) as opened_target:
        check_target(rootfs, opened_target, entry.destination, proc=entry.type == "proc")
        target = f"/proc/self/fd/{opened_target}"
        data = options.data
        if entry.type == "tmpfs" and "mode=" not in data:
            data = ",".join(filter(None, [data, f"mode={stat.S_IMODE(os.stat(target).st_mode):o}"]))
        copy = _contents(target) if options.copy_up else None
        syscalls.mount(entry.source or entry.type, target, entry.type, options.flags, data)
    if copy:
        with inside(rootfs, entry.destination) as place:
            _restore(place, copy)


def _mount_or_bind(rootfs: int, entry: oci.Mount, options: Options) -> None:
    """sysfs belongs to the network namespace: who does not own that one may only borrow the host's."""
    try:
        mount_new(rootfs, entry, options)
    except PermissionError:
        source = {"sysfs": "/sys", "mqueue": "/dev/mqueue"}[entry.type]
        borrowed = Options(["rbind"])
        borrowed.change = options.change
        _bind(rootfs, oci.Mount(entry.destination, "bind", source), borrowed, None)


# %% Read-only, when all is there
def _waits_for_readonly(entry: oci.Mount) -> bool:
    return entry.type == "tmpfs" or os.path.normpath(entry.destination) == "/dev"


def finish_readonly(mounts: Sequence[oci.Mount]) -> None:
    """Take the right to write from those that had to be filled first; called after the pivot."""
    for entry in mounts:
        options = Options(entry.options)
        if _waits_for_readonly(entry) and options.flags & Mount.RDONLY and not _is_bind(options):
            fd = os.open(entry.destination, os.O_PATH | os.O_CLOEXEC)
            try:
                set_attributes(fd, Attribute.RDONLY)
            finally:
                os.close(fd)


def _is_bind(options: Options) -> bool:
    return bool(options.flags & Mount.BIND)


# %% Bind mounts
def _bind(rootfs: int, entry: oci.Mount, options: Options, given: int | None) -> None:
    tree = open_source(entry.source, options) if given is None else given
    try:
        is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        apply_change(tree, options.change, recursive=False)
        apply_change(tree, options.everywhere, recursive=True)
        make_mount_point(rootfs, entry.destination, directory=is_directory)
        with opened(rootfs, entry.destination) as target:
            proc = syscalls.filesystem_type(tree) == PROC_SUPER_MAGIC
            check_target(rootfs, target, entry.destination, proc)
            move_mount(tree, target, entry.destination)
    finally:
        os.close(tree)


def open_source(source: str, options: Options) -> int:
    """Clone what is at ``source`` as a mount that is nowhere yet."""
    try:
        return open_tree(source, options.recursive)
    except FileNotFoundError:
        raise NotFound(f"bind source path does not exist: {source}") from None


def apply_change(mount: int, change: Change, recursive: bool) -> None:
    """Switch attributes of the open ``mount``; what no word spoke of stays as it was."""
    if change:
        set_attributes(mount, change.on, change.off, recursive)


# %% What a tmpfs covers, when asked to keep it
def _contents(directory: str) -> bytes:
    """All below ``directory`` as a tar archive in memory (``tmpcopyup``: meant for small trees)."""
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in sorted(os.listdir(directory)):
            archive.add(f"{directory}/{name}", arcname=name)
    return buffer.getvalue()


def _restore(directory: str, archive: bytes) -> None:
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        source.extractall(directory, numeric_owner=True)
