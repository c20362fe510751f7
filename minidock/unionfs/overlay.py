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
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

from minidock import steps
from minidock.linux import syscalls
from minidock.linux.syscalls import Clone
from minidock.unionfs import Change, Driver
from minidock.unionfs.archive import Whiteouts, is_reserved
from minidock.unionfs.mapped import act_as_owner, bind_mapped, mapped
from minidock.unionfs.pack import order, walk

OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"


# %% Whiteouts, as overlayfs writes them
class OverlayWhiteouts(Whiteouts):
    """A deletion is a device 0:0, an opaque directory has an attribute."""

    def remove(self, directory: int, name: str) -> None:
        """Put the whiteout where the name was; it may be there already."""
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

    alone = True

    @classmethod
    def lacks(cls, root: Path) -> str:
        """Try it: the kernel may lack it, and some file systems cannot be its upper layer."""
        with tempfile.TemporaryDirectory(dir=root) as name:
            top = Path(name)
            for part in ("lower", "upper", "work", "merged"):
                (top / part).mkdir()
            options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
            try:
                syscalls.mount("overlay", top / "merged", "overlay", 0, options)
            except OSError as error:
                return f"the kernel has no overlayfs for {root}: {os.strerror(error.errno or 0)}"
            syscalls.umount(top / "merged")
            return ""

    def _open(self) -> None:
        self._hides: dict[str, bool] = {}  # layers never change, so each is asked once

    def _prepare(self, new: Path, parent: str | None) -> None:
        new.mkdir(0o755)

    # %% Mounting
    def mount(self, chains: Sequence[str], container_dir: Path, userns: str = "") -> Path:
        """Lay the container's own layer on top of ``chains``."""
        target = container_dir / "rootfs"
        upper, work = container_dir / "upper", container_dir / "work"
        for path in (target, upper, work):
            path.mkdir(mode=0o755, exist_ok=True)
        lower = ":".join(self.directory(chain) for chain in reversed(self._showing(chains)))
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
        found, layers = [], _Stack(self._down(chains))
        for path, status in walk(upper):
            name = str(path.relative_to(upper))
            below = layers.has(name)
            if is_whiteout(status) or is_reserved(name):
                if below:
                    found.append(Change("D", f"/{name}"))
                continue
            found.append(Change("C" if below else "A", f"/{name}"))
            if below and stat.S_ISDIR(status.st_mode) and is_opaque(path):
                hidden = layers.children(name) - set(os.listdir(path))
                found += [Change("D", f"/{name}/{child}") for child in hidden]
        return sorted(found, key=lambda change: order(change.path))

    def _down(self, chains: Sequence[str]) -> list[Path]:
        return [self.root / self.directory(chain) for chain in reversed(self._showing(chains))]

    def _showing(self, chains: Sequence[str]) -> Sequence[str]:
        """Without those below a layer that hides all; overlayfs looks for the mark only in directories."""
        for place in range(len(chains) - 1, 0, -1):
            chain = chains[place]
            if chain not in self._hides:
                self._hides[chain] = is_opaque(self.root / self.directory(chain))
            if self._hides[chain]:
                return chains[place:]
        return chains


# %% What the layers show
class _Stack:
    """Layers, the topmost first, taken together by the rules that the kernel has.

    Names come with the directories before what is in them, so of each directory it is kept which
    layers have a part in it.
    """

    def __init__(self, layers: Sequence[Path]) -> None:
        self._parts: dict[str, Sequence[Path]] = {"": layers}

    def has(self, name: str) -> bool:
        """Whether they show ``name``."""
        return next((not is_whiteout(status) for _, status in self._look(name)), False)

    def children(self, directory: str) -> set[str]:
        """What they show in ``directory``."""
        found: set[str] = set()
        gone: set[str] = set()
        for layer in self._parts_of(directory):
            for entry in os.scandir(layer / directory):
                deleted = is_whiteout(entry.stat(follow_symlinks=False))
                if entry.name not in gone | found:
                    (gone if deleted else found).add(entry.name)
        return found

    def _look(self, name: str) -> Iterator[tuple[Path, os.stat_result]]:
        """What each layer has there, of those that have a part in the directory above."""
        for layer in self._parts_of(name.rpartition("/")[0]):
            with suppress(FileNotFoundError):
                yield layer, (layer / name).lstat()

    def _parts_of(self, directory: str) -> Sequence[Path]:
        """Down to a layer where it is opaque, or is something else (then only those above it)."""
        if directory not in self._parts:
            parts: list[Path] = []
            for layer, status in self._look(directory):
                if not stat.S_ISDIR(status.st_mode):
                    break
                parts.append(layer)
                if is_opaque(layer / directory):
                    break
            self._parts[directory] = parts
        return self._parts[directory]
