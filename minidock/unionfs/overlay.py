"""overlayfs: the kernel lays the trees on top of each other.

``mount -t overlay -o lowerdir=TOP:…:BOTTOM,upperdir=U,workdir=W``: what is
read comes from the topmost tree that has it; what is written goes to
``upperdir``, into which a file of a lower tree is copied first (*copy up*).
What is deleted becomes a character device 0:0 there, which hides what is
below: the kernel's own whiteout.

The traps. All options together must fit into one page, so that long paths
soon forbid many layers: we mount from within the layers' directory with
short relative names. But the current directory belongs to the whole
process, so a thread that has its own (``unshare(CLONE_FS)``) does it.
``upperdir`` cannot itself be on an overlay. And an archive must not bring
its own ``trusted.overlay`` attributes along.

**Interface:** :class:`OverlayDriver`.

**See:** Linux Documentation/filesystems/overlayfs.rst; mount(2).
"""

import os
import stat
import tarfile
import tempfile
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from minidock import steps
from minidock.linux import syscalls
from minidock.linux.syscalls import Clone
from minidock.unionfs import Change, Driver
from minidock.unionfs.archive import OPAQUE, Whiteouts
from minidock.unionfs.mapped import act_as_owner, bind_mapped, mapped
from minidock.unionfs.pack import pack, walk, whiteout

OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"


# %% Whiteouts, as overlayfs writes them
class OverlayWhiteouts(Whiteouts):
    """A deletion is a device 0:0, an opaque directory has an attribute."""

    def remove(self, directory: int, name: str) -> None:
        """Put the whiteout where the name was, unless this layer has something of that name."""
        with suppress(FileExistsError):
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)

    def hide_all(self, directory: int, ours: set[str]) -> None:
        """Mark the directory."""
        os.setxattr(directory, OPAQUE_ATTRIBUTE, b"y")


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlayfs' mark for a deletion."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path) -> bool:
    """Whether nothing of the layers below shows in the directory."""
    with suppress(OSError):
        return os.getxattr(path, OPAQUE_ATTRIBUTE, follow_symlinks=False) == b"y"
    return False


# %% The driver
class OverlayDriver(Driver):
    """One directory per layer, holding just what the layer has."""

    name = "overlay"
    whiteouts = OverlayWhiteouts

    @staticmethod
    def works(root: Path) -> bool:
        """Try it: the kernel may lack it, and some file systems cannot be its upper layer."""
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as name:
            top = Path(name)
            for part in ("lower", "upper", "work", "merged"):
                (top / part).mkdir()
            options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
            try:
                syscalls.mount("overlay", top / "merged", "overlay", 0, options)
            except OSError:
                return False
            syscalls.umount(top / "merged")
            return True

    def _prepare(self, new: Path, parent: str | None) -> None:
        new.mkdir(0o755)

    # %% Mounting
    def mount(self, chains: Sequence[str], container_dir: Path, userns: str = "") -> Path:
        """Lay the container's own layer on top of ``chains``."""
        target = container_dir / "rootfs"
        upper, work = container_dir / "upper", container_dir / "work"
        for path in (target, upper, work):
            path.mkdir(mode=0o755, exist_ok=True)
        lower = ":".join(self.directory(chain) for chain in reversed(chains))
        with (
            mapped(self.root, container_dir, userns) as (layers, own),
            steps.step(
                "mount the layers", call="mount(2) overlay", chapter="unionfs", layers=len(chains)
            ) as step,
        ):
            options = f"lowerdir={lower},upperdir={own / 'upper'},workdir={own / 'work'}"
            if chains:
                self._mount_here(layers, target, options)
            else:  # an empty image: there is nothing to lay it on, and overlayfs wants something
                bind_mapped(upper, target, userns)
            step.undo(self.unmount, container_dir)
        return target

    def _mount_here(self, layers: Path, target: Path, options: str) -> None:
        """mount(2) with the layers' directory as the current one, in a thread of its own."""
        errors: list[OSError] = []

        def errand() -> None:
            try:
                syscalls.unshare(Clone.FS)
                os.chdir(layers)
                act_as_owner(layers)
                syscalls.mount("overlay", target, "overlay", 0, options)
            except OSError as error:
                errors.append(error)

        thread = Thread(target=errand)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]

    # %% What has changed
    def changes(self, chains: Sequence[str], container_dir: Path) -> list[Change]:
        """Everything in the upper directory; it is a change if the layers have it, else new."""
        upper = container_dir / "upper"
        if not upper.exists():
            return []
        found = []
        for path, status in walk(upper):
            name = str(path.relative_to(upper))
            below = self._is_below(chains, name)
            if is_whiteout(status):
                if below:
                    found.append(Change("D", f"/{name}"))
            else:
                found.append(Change("C" if below else "A", f"/{name}"))
        return found

    def _is_below(self, chains: Sequence[str], name: str) -> bool:
        """Whether the layers, taken together, have ``name``."""
        for chain in reversed(chains):
            layer = self.root / self.directory(chain)
            verdict = _look(layer, name)
            if verdict is not None:
                return verdict
        return False

    # %% Packing
    def pack(
        self,
        chains: Sequence[str],
        container_dir: Path,
        out: BinaryIO,
        without: Container[str] = (),
    ) -> None:
        """The upper directory, with OCI's whiteouts instead of the kernel's."""
        pack(container_dir / "upper", out, _convert, without)


def _look(layer: Path, name: str) -> bool | None:
    """Whether ``name`` is in this layer; None if the layers below must be asked."""
    current, opaque = layer, False
    for part in name.split("/"):
        current = current / part
        try:
            status = current.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False if opaque else None
        if is_whiteout(status):
            return False
        opaque = opaque or is_opaque(current)
    return True


def _convert(
    member: tarfile.TarInfo, status: os.stat_result, path: Path
) -> Iterator[tarfile.TarInfo]:
    if is_whiteout(status):
        yield whiteout(member.name)
        return
    yield member
    if member.isdir() and is_opaque(path):
        yield tarfile.TarInfo(f"{member.name}/{OPAQUE}")
