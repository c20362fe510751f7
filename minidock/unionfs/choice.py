"""Which driver: by name, or the best that the host can do.

Each driver keeps its layers in a directory of its own, so that a root which
was used with one can be used with another: the images are extracted again,
from their blobs, when they are needed.

The trap is a driver that is chosen and then does not work. So each says at
once what it lacks, and a choice by name is never answered by another one;
only who has not chosen gets what there is.

**Interface:** :func:`choose`, :func:`examine`, :func:`backing`.

**See:** moby ``daemon/graphdriver/driver.go``.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from minidock.errors import InvalidParameter, NotSupported, Unavailable
from minidock.unionfs import Driver

# %% The drivers there are
DRIVERS = {
    "overlay": ("overlay", "OverlayDriver"),
    "btrfs": ("btrfs", "BtrfsDriver"),
    "fuse-overlayfs": ("fuse", "FuseOverlayDriver"),
    "devicemapper": ("devicemapper", "DeviceMapperDriver"),
    "vfs": ("vfs", "VfsDriver"),
}

BEST_FIRST = ("overlay", "btrfs", "fuse-overlayfs", "vfs")  # devicemapper only for who asks for it

AUFS = (
    "storage driver aufs is gone: it was never part of Linux, and Docker took it out in 24.0;"
    " overlay does the same (chapter 7 tells its story)"
)


def load(name: str) -> type[Driver]:
    """The class of the driver; only the module of the one that is used is imported."""
    module, wanted = DRIVERS[name]
    found: type[Driver] = getattr(importlib.import_module(f"minidock.unionfs.{module}"), wanted)
    return found


# %% Which driver
def choose(name: str | None, root: Path, options: Sequence[str] = ()) -> Driver:
    """The driver called ``name``; without a name, the best that works here.

    ``options`` are ``NAME=VALUE``, as for ``--storage-opt``.
    """
    root.mkdir(parents=True, exist_ok=True)
    if not name:
        name = next(one for one in BEST_FIRST if not load(one).lacks(root))
        return load(name)(root, options)
    name = "overlay" if name == "overlay2" else name
    if name == "aufs":
        raise NotSupported(AUFS)
    if name not in DRIVERS:
        raise InvalidParameter(f"unknown storage driver {name!r} ({', '.join(DRIVERS)})")
    kind = load(name)
    if lack := kind.lacks(root):
        raise Unavailable(f"storage driver {name} does not work here: {lack}")
    return kind(root, options)


def examine(root: Path) -> dict[str, str]:
    """What each driver lacks on this host; nothing if it works."""
    return {name: load(name).lacks(root) for name in DRIVERS}


# %% What they lie on
def backing(place: Path) -> str:
    """The kind of the file system ``place`` is on, in Docker's words (``extfs`` for all of ext's).

    Not by the device's number: each subvolume of btrfs has one of its own.
    """
    place, kind, longest = place.resolve(), "<unknown>", 0
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4])
        if place.is_relative_to(point) and len(point.parts) >= longest:  # the last one is on top
            kind, longest = right.split()[0], len(point.parts)
    return "extfs" if kind in ("ext2", "ext3", "ext4") else kind
