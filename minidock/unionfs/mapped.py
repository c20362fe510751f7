"""Layers, shown to a container as its own: idmapped mounts.

On the disk an image's files belong to root. In a container with a user
namespace, root is user 100000 (say) of the host, to whom they would be
somebody else's. An *idmapped* mount translates: what is user 0 on the disk
appears as user 100000 through it, and what 100000 writes through it is
written as 0. Nothing is copied, and the layers stay shared.

The traps. Overlayfs wants its layers by path, so the mapped clones must be
attached somewhere for the moment of its mount; it keeps clones of its own,
so they can go at once; and they must not be peers of the mount that they are
clones of, or the container's own mount, made below both, would go with them
(where ``/`` is shared, as systemd makes it). And it acts in them as who mounted it: the host's
root, who is nobody in these maps, and overlayfs would silently become
read-only. So the thread that mounts it takes on the file system identity of
the container's root, and nothing else of it.

**Interface:** :func:`mapped`, :func:`detach`, :func:`act_as_owner`, :func:`bind_mapped`.

**See:** mount_setattr(2) MOUNT_ATTR_IDMAP; Linux
Documentation/filesystems/idmappings.rst, overlayfs.rst (since Linux 5.19).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minidock import steps
from minidock.errors import Unavailable
from minidock.linux.identity import act_in_files_as
from minidock.linux.mountapi import Attribute, move_mount, open_tree, set_attributes
from minidock.linux.syscalls import Mount, Umount, mount, umount

PLACES = ("layers.mapped", "own.mapped")  # in the container's directory, for that moment


# %% For overlayfs
@contextmanager
def mapped(layers: Path, own: Path, userns: str) -> Iterator[tuple[Path, Path]]:
    """Both directories as the user namespace is to see them, during the block; unchanged without one."""
    if not userns:
        yield layers, own
        return
    try:
        for name, source in zip(PLACES, (layers, own), strict=True):
            (own / name).mkdir(mode=0o700, exist_ok=True)
            with steps.step(
                f"map the ids of {name}", call="mount_setattr(2)", chapter="unionfs", source=source
            ):
                mount_mapped(source, own / name, userns)
        yield own / PLACES[0], own / PLACES[1]
    finally:
        detach(own)


def detach(own: Path) -> None:
    """Take the clones away; also those that a daemon that was killed has left."""
    for name in PLACES:
        with suppress(OSError):
            umount(own / name, Umount.DETACH)
        with suppress(FileNotFoundError):
            (own / name).rmdir()


def act_as_owner(directory: Path) -> None:
    """From now on this *thread* makes files as the owner of ``directory``."""
    owner = os.stat(directory)
    if (owner.st_uid, owner.st_gid) != (0, 0):
        act_in_files_as(owner.st_uid, owner.st_gid)


# %% One idmapped mount
def bind_mapped(source: Path, target: Path, userns: str) -> None:
    """A bind mount, idmapped if there is a user namespace to map by."""
    if userns:
        mount_mapped(source, target, userns)
    else:
        mount(source, target, flags=Mount.BIND)


def mount_mapped(source: Path, target: Path, userns: str) -> None:
    """Mount ``source`` at ``target``, its owners shown by the maps of the user namespace ``userns``."""
    maps = os.open(userns, os.O_RDONLY | os.O_CLOEXEC)
    tree = open_tree(source)
    place = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        set_attributes(tree, Attribute.IDMAP, userns=maps, propagation=Mount.PRIVATE)
        move_mount(tree, place, str(target))
    except OSError as error:
        raise Unavailable(
            f"{source} cannot be idmapped, which --userns-remap needs (Linux 5.19, and a file system"
            f" that can): {error}"
        ) from None
    finally:
        for fd in (place, tree, maps):
            os.close(fd)
