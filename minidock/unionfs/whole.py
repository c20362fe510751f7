"""Drivers whose layers are whole trees: what has changed is found by comparing.

There is no directory in which all that a container wrote lies together. So
its tree is compared with that of the layer it began as, name by name.
``git status`` works like this, and has the same trick of believing size and
time where it can.

The traps: a directory whose *contents* have changed counts as changed, as it
does in a union, because a layer that has a file must also say whose the
directory is; and what was in a directory that became a file is not deleted
one by one, as there is no directory left to delete it in.

**Interface:** :class:`WholeTreeDriver`.

**See:** moby ``pkg/archive/changes.go``.
"""

import filecmp
import os
import stat
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from minidock import steps
from minidock.unionfs import Change, Driver
from minidock.unionfs.archive import Whiteouts, is_reserved
from minidock.unionfs.mapped import bind_mapped
from minidock.unionfs.pack import order, walk


# %% The driver
class WholeTreeDriver(Driver):
    """A layer's whiteouts are carried out at once, as the layers below are in the same tree."""

    whiteouts = Whiteouts

    @abstractmethod
    def _copy(self, chains: Sequence[str], container_dir: Path) -> None:
        """Make the container's tree at ``container_dir/upper``, of the topmost layer."""

    def mount(self, chains: Sequence[str], container_dir: Path, userns: str = "") -> Path:
        """Copy the top layer, the first time; a bind mount makes it look like any other driver's."""
        target, own = container_dir / "rootfs", container_dir / "upper"
        target.mkdir(mode=0o755, exist_ok=True)
        if not own.exists():
            self._copy(chains, container_dir)
        with steps.step("mount the copy", call="mount(2) MS_BIND", chapter="unionfs") as step:
            step.undo(self.unmount, container_dir)
            bind_mapped(own, target, userns)
        return target

    # %% What has changed
    def changes(self, chains: Sequence[str], container_dir: Path) -> list[Change]:
        """Compare the container's tree with the layer's, both ways."""
        if not (container_dir / "upper").exists():
            return []
        with self.own_tree(container_dir) as own:
            if not chains:
                return [Change("A", f"/{name}") for name in _everything(own)]
            with self.layer_tree(chains[-1]) as layer:
                return compare(layer, own)


def compare(layer: Path, own: Path) -> list[Change]:
    """What makes ``own`` of ``layer``."""
    theirs, mine = _everything(layer), _everything(own)
    kinds = {
        name: "C" if name in theirs else "A"
        for name, status in mine.items()
        if name not in theirs or not _same(layer / name, theirs[name], own / name, status)
    }
    for name in theirs.keys() - mine.keys():
        parent = name.rpartition("/")[0]
        if not parent or (parent in mine and stat.S_ISDIR(mine[parent].st_mode)):
            kinds[name] = "D"
    for name in list(kinds):
        while (name := name.rpartition("/")[0]) and name not in kinds:
            kinds[name] = "C"
    return [Change(kinds[name], f"/{name}") for name in sorted(kinds, key=order)]


# %% Comparing
def _everything(root: Path) -> dict[str, os.stat_result]:
    """All names below ``root``. Who asks for one of them by its path may be led out by a link."""
    names = ((str(path.relative_to(root)), status) for path, status in walk(root))
    return {name: status for name, status in names if not is_reserved(name)}


def _same(one: Path, a: os.stat_result, other: Path, b: os.stat_result) -> bool:
    """Whether both look the same: in what tar would keep of them."""
    if (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev):
        return False
    if stat.S_ISLNK(a.st_mode):
        return os.readlink(one) == os.readlink(other)
    if a.st_mtime_ns != b.st_mtime_ns or _attributes(one) != _attributes(other):
        return False
    return not stat.S_ISREG(a.st_mode) or (
        a.st_size == b.st_size and filecmp.cmp(one, other, shallow=True)
    )


def _attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)}  # fmt: skip
