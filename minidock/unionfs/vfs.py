"""vfs: no union at all, but copies.

**Interface:** :class:`VfsDriver`.

Each layer is a whole tree: its parent's, copied, with the layer's changes
made. Each container is a copy again. It is slow and takes space, and it
works on every file system; it is what overlayfs is measured against.

The trap: layers are read-only, so the copy of a layer may share its files
(hard links); a container writes, so its copy may not.

**See:** cp(1) ``--reflink``; moby ``daemon/graphdriver/vfs``.
"""

import filecmp
import os
import stat
import subprocess
import tarfile
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from minidock import steps
from minidock.errors import Unavailable
from minidock.unionfs import Change, Driver
from minidock.unionfs.archive import Whiteouts
from minidock.unionfs.mapped import bind_mapped
from minidock.unionfs.pack import pack, walk, whiteout


# %% Copying trees
def copy_tree(source: Path, target: Path, *how: str) -> None:
    """``cp -a``, which keeps all that tar keeps; ``how`` are further options."""
    done = subprocess.run(
        ["cp", "-a", *how, f"{source}/.", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Unavailable(f"copying {source}: {done.stderr.strip().splitlines()[0]}")


# %% The driver
class VfsDriver(Driver):
    """One directory per layer, holding the whole stack."""

    name = "vfs"
    whiteouts = Whiteouts

    def _prepare(self, new: Path, parent: str | None) -> None:
        new.mkdir(0o755)
        if parent is not None:
            copy_tree(self.root / self.directory(parent), new, "--link")

    def mount(self, chains: Sequence[str], container_dir: Path, userns: str = "") -> Path:
        """Copy the top layer, the first time; a bind mount makes it look like any other driver's."""
        target, own = container_dir / "rootfs", container_dir / "upper"
        target.mkdir(mode=0o755, exist_ok=True)
        with steps.step("copy the layers", call="cp(1) --reflink=auto", chapter="unionfs"):
            if not own.exists():
                new = container_dir / "work"
                new.mkdir(mode=0o755, exist_ok=True)
                if chains:
                    copy_tree(self.root / self.directory(chains[-1]), new, "--reflink=auto")
                os.rename(new, own)
        with steps.step("mount the copy", call="mount(2) MS_BIND", chapter="unionfs") as step:
            step.undo(self.unmount, container_dir)
            bind_mapped(own, target, userns)
        return target

    # %% What has changed
    def changes(self, chains: Sequence[str], container_dir: Path) -> list[Change]:
        """Compare the container's tree with the layer's, both ways."""
        own = container_dir / "upper"
        if not own.exists():
            return []
        if not chains:
            return [Change("A", f"/{name}") for name in _names(own)]
        layer = self.root / self.directory(chains[-1])
        found = [
            Change("A" if not _lexists(layer / name) else "C", f"/{name}")
            for name in _names(own)
            if not _same(layer / name, own / name)
        ]
        gone = [name for name in _names(layer) if not _lexists(own / name)]
        deleted = [name for name in gone if str(Path(name).parent) not in gone]
        found += [Change("D", f"/{name}") for name in deleted]
        return sorted(found, key=lambda change: change.path)

    def pack(
        self,
        chains: Sequence[str],
        container_dir: Path,
        out: BinaryIO,
        without: Container[str] = (),
    ) -> None:
        """Only what has changed; a deletion goes in beside the directory it happened in."""
        changes = self.changes(chains, container_dir)
        wanted = {change.path for change in changes if change.kind != "D"}
        deleted: dict[str, list[str]] = {}
        for change in changes:
            if change.kind == "D":
                deleted.setdefault(str(Path(change.path).parent), []).append(change.path[1:])

        def convert(
            member: tarfile.TarInfo, status: os.stat_result, path: Path
        ) -> Iterator[tarfile.TarInfo]:
            if f"/{member.name}" in wanted:
                yield member
            here = f"/{member.name}"
            for name in [*deleted.pop("/", ()), *deleted.pop(here, ())]:
                yield whiteout(name)

        pack(container_dir / "upper", out, convert, without)


# %% Comparing
def _names(root: Path) -> Iterator[str]:
    return (str(path.relative_to(root)) for path, _ in walk(root))


def _lexists(path: Path) -> bool:
    return os.path.lexists(path)


def _same(one: Path, other: Path) -> bool:
    """Whether both are there and look the same: what tar would keep of them."""
    if not _lexists(one):
        return False
    a, b = one.lstat(), other.lstat()
    if (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev):
        return False
    if stat.S_ISLNK(a.st_mode):
        return os.readlink(one) == os.readlink(other)
    if a.st_mtime_ns != b.st_mtime_ns:
        return False
    return not stat.S_ISREG(a.st_mode) or (
        a.st_size == b.st_size and filecmp.cmp(one, other, shallow=True)
    )
