"""btrfs: every layer is a snapshot of the one below.

As with vfs, each layer and each container has the whole tree; but to copy a
tree takes one call and no room, because the file system shares the blocks
until somebody writes. A container that changes one byte of a large file
gets one new block, where overlayfs would copy the file.

The traps: it needs this file system, for the layers and the containers
alike. Two containers that read the same file have it in memory twice, as it
is another file to the kernel. And a container can make subvolumes of its
own, which must go before its tree can.

**Interface:** :class:`BtrfsDriver`.

**See:** :mod:`minidock.linux.btrfs`; moby ``daemon/graphdriver/btrfs``.
"""

import errno
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from minidock import steps
from minidock.linux import btrfs
from minidock.paths import remove_tree
from minidock.unionfs.choice import backing
from minidock.unionfs.whole import WholeTreeDriver


# %% The driver
class BtrfsDriver(WholeTreeDriver):
    """One subvolume per layer, and one per container."""

    name = "btrfs"

    @classmethod
    def lacks(cls, root: Path) -> str:
        """Only the file system."""
        kind = backing(root)
        return "" if kind == "btrfs" else f"{root} is on {kind}, not on btrfs"

    def _prepare(self, new: Path, parent: str | None) -> None:
        self._branch(self.directory(parent) if parent else None, new)

    def _copy(self, chains: Sequence[str], container_dir: Path) -> None:
        with steps.step(
            "snapshot the layers", call="ioctl(2) BTRFS_IOC_SNAP_CREATE", chapter="unionfs"
        ):
            self._branch(self.directory(chains[-1]) if chains else None, container_dir / "upper")

    def _branch(self, layer: str | None, new: Path) -> None:
        if layer is not None:
            btrfs.snapshot(self.root / layer, new)
            return
        btrfs.create_subvolume(new)
        new.chmod(0o755)

    def _discard(self, place: Path) -> None:
        """A subvolume in one call, unless there are others in it; then rmdir(2) does it."""
        if btrfs.is_subvolume(place):
            try:
                btrfs.destroy_subvolume(place)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                remove_tree(place)
                with suppress(OSError):
                    btrfs.destroy_subvolume(place)
            return
        super()._discard(place)
