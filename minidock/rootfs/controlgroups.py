"""The cgroup tree, as the container may see it.

Version 2 is one file system; version 1 is one per controller, below a
tmpfs, with links for controllers that are mounted together. Either way the
container shall find its own cgroup at the top. In a cgroup namespace of its
own that is what a new mount shows; without one, we bind mount the
directories of its cgroup.

The trap is a version 1 tree that the host has not mounted: asking for it
would make it, for everybody. So only those are mounted that the host has.

**Interface:** :func:`mount`.

**See:** cgroup_namespaces(7); OCI runtime specification, config-linux.md,
"Control groups".
"""

import os

from minidock.linux import syscalls
from minidock.linux.mountapi import Attribute, move_mount, open_tree, set_attributes
from minidock.linux.syscalls import Mount
from minidock.rootfs.options import FLAGS, Options
from minidock.rootfs.paths import inside, make_mount_point, opened

FRAME = Mount.NOSUID | Mount.NODEV | Mount.NOEXEC


# %% Mounting it
def mount(
    rootfs: int, destination: str, options: Options, directories: dict[str, str] | None
) -> None:
    """Mount the tree(s) at ``destination``.

    ``directories`` is None in a cgroup namespace; else it maps where a tree
    is mounted on the host to the directory of the container's cgroup in it.
    """
    trees = host_trees()
    if trees and trees[0].name == "":
        _attach(rootfs, destination, trees[0], options, directories)
        return
    make_mount_point(rootfs, destination, directory=True)
    with inside(rootfs, destination) as target:
        syscalls.mount("tmpfs", target, "tmpfs", FRAME, "mode=755")
    for tree in trees:
        _attach(rootfs, f"{destination}/{tree.name}", tree, options, directories)
        for alias in tree.controllers.split(","):
            _link(rootfs, f"{destination}/{alias}", tree.name)
    if options.flags & Mount.RDONLY:
        with opened(rootfs, destination) as frame:
            set_attributes(frame, Attribute.RDONLY)


def _attach(
    rootfs: int,
    where: str,
    tree: "Tree",
    options: Options,
    directories: dict[str, str] | None,
) -> None:
    make_mount_point(rootfs, where, directory=True)
    with opened(rootfs, where) as target:
        if directories is None:
            data = tree.controllers or options.data
            path = f"/proc/self/fd/{target}"
            syscalls.mount("cgroup", path, tree.kind, options.flags | FRAME, data)
            return
        source = directories.get(tree.place, tree.place)
        _bind(source, target, options, where)


def _bind(source: str, target: int, options: Options, where: str) -> None:
    mount = open_tree(source)
    try:
        attributes = Attribute.NOSUID | Attribute.NODEV | Attribute.NOEXEC | options.change.on
        set_attributes(mount, attributes, options.change.off)
        move_mount(mount, target, where)
    finally:
        os.close(mount)


# %% What the host has
class Tree:
    """One tree: ``name`` below ``/sys/fs/cgroup``, the file system's ``kind``, its controllers."""

    __slots__ = ("controllers", "kind", "name", "place")

    def __init__(self, place: str, kind: str, controllers: str) -> None:
        self.place = place
        self.name = place.removeprefix("/sys/fs/cgroup").strip("/")
        self.kind = kind
        self.controllers = controllers


def host_trees() -> list[Tree]:
    """Those that are mounted; just one, with an empty name, where there is only version 2."""
    trees = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()[:3]
            place = left.split()[4]
            if kind == "cgroup2" and place == "/sys/fs/cgroup":
                return [Tree(place, kind, "")]
            if place.startswith("/sys/fs/cgroup/") and kind in ("cgroup", "cgroup2"):
                words = [w for w in options.split(",") if kind == "cgroup" and w not in FLAGS]
                wanted = [w for w in words if "=" not in w or w.startswith("name=")]
                trees.append(Tree(place, kind, ",".join(wanted)))
    return trees


def _link(rootfs: int, path: str, target: str) -> None:
    name = os.path.basename(path)
    if name and name != target and "=" not in name:
        with inside(rootfs, os.path.dirname(path)) as directory:
            os.symlink(target, f"{directory}/{name}")
