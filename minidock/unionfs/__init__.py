"""Union file systems: many read-only layers and one to write on, seen as one tree.

An image is a stack of layers, which it shares with other images; a
container puts one more on top, which is its own. A *driver* knows how to
make one tree of them. ``overlay`` lets the kernel do it, so that a
container starts in a millisecond and costs nothing until it writes; ``vfs``
copies everything, which works everywhere and shows what is being saved.

The traps: layers may be named by a stranger's archive (see :mod:`.archive`),
and a layer that is half extracted must never be taken for a whole one: it
is built under another name and renamed.

**Interface:** :class:`Driver`, :class:`Change`, :func:`choose`.

**See:** Linux Documentation/filesystems/overlayfs.rst; moby
``daemon/graphdriver``.
"""

import json
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minidock import steps
from minidock.errors import InvalidParameter, NotFound
from minidock.linux import syscalls
from minidock.linux.syscalls import Umount
from minidock.paths import read_json, write_json
from minidock.unionfs.archive import Whiteouts, extract


# %% What a container has changed
@dataclass(frozen=True, slots=True)
class Change:
    """``kind`` is "A" (added), "C" (changed) or "D" (deleted); ``path`` begins with a slash."""

    kind: str
    path: str


# %% A driver
class Driver(ABC):
    """Keeps layers in ``root``, one directory each, and makes containers' trees of them.

    Layers are known by their chain id, which names the whole stack down to
    the lowest; their directories by the first digits of it, as many of them
    must fit into one mount option.
    """

    name: str
    whiteouts: type[Whiteouts]

    def __init__(self, root: Path) -> None:
        self.root = root / self.name
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clear_away()

    def _clear_away(self) -> None:
        """What a daemon that was killed has left: trees without a note, notes half written."""
        for entry in list(os.scandir(self.root)):
            if entry.is_dir() and not os.path.exists(f"{entry.path}.json"):
                shutil.rmtree(entry.path)
            elif entry.name.startswith("."):
                os.unlink(entry.path)

    def directory(self, chain: str) -> str:
        """The name of a layer's directory."""
        return chain.partition(":")[2][:16]

    def _note(self, chain: str) -> Path:
        return self.root / f"{self.directory(chain)}.json"

    def has_layer(self, chain: str) -> bool:
        """Whether the layer is here, whole."""
        return self._note(chain).exists()

    def layer_size(self, chain: str) -> int:
        """The bytes of its files."""
        try:
            return int(read_json(self._note(chain))["size"])
        except FileNotFoundError:
            raise NotFound(f"no such layer: {chain}") from None

    # %% Layers
    def create_layer(self, chain: str, parent: str | None, archive: BinaryIO) -> None:
        """Extract ``archive``, an uncompressed tar, as the layer ``chain`` on top of ``parent``."""
        if self.has_layer(chain):
            while archive.read(1 << 20):
                pass
            return
        new = self.root / f".new-{secrets.token_hex(6)}"
        with steps.step(
            "extract a layer", call="openat2(2) write(2)", chapter="unionfs", layer=chain[:19]
        ):
            try:
                self._prepare(new, parent)
                size = extract(archive, new, self.whiteouts())
                while archive.read(1 << 20):  # the padding after the end of the archive
                    pass
                self._settle(new, chain, size)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise

    def _settle(self, new: Path, chain: str, size: int) -> None:
        """Rename it into place; the note that says it is whole comes last."""
        place = self.root / self.directory(chain)
        if place.exists():  # without a note: of a daemon that was killed at this very place
            shutil.rmtree(place)
        os.rename(new, place)
        write_json(self._note(chain), {"chain": chain, "size": size})

    def remove_layer(self, chain: str) -> None:
        """Forget the layer; the note goes first."""
        self._note(chain).unlink(missing_ok=True)
        shutil.rmtree(self.root / self.directory(chain), ignore_errors=True)

    def layers(self) -> list[str]:
        """The chain ids of all layers."""
        found = []
        for path in self.root.glob("*.json"):
            with suppress(ValueError, KeyError):
                found.append(str(json.loads(path.read_text())["chain"]))
        return found

    @abstractmethod
    def _prepare(self, new: Path, parent: str | None) -> None:
        """Make the directory into which a layer is extracted."""

    # %% Containers
    @abstractmethod
    def mount(self, chains: Sequence[str], container_dir: Path, userns: str = "") -> Path:
        """Make the tree of ``chains`` (lowest first) at ``container_dir/rootfs``; returns that path.

        ``userns``: a user namespace by whose id maps the owners of the files are shown.
        """

    def unmount(self, container_dir: Path) -> None:
        """Take the tree away, keep what was written; it may be gone already."""
        with suppress(OSError):
            syscalls.umount(container_dir / "rootfs", Umount.DETACH)

    def remove(self, container_dir: Path) -> None:
        """Forget what was written, too."""
        self.unmount(container_dir)
        for name in ("upper", "work", "rootfs"):
            shutil.rmtree(container_dir / name, ignore_errors=True)

    @abstractmethod
    def changes(self, chains: Sequence[str], container_dir: Path) -> list[Change]:
        """What the container has added, changed and deleted, in the order of paths."""

    @abstractmethod
    def pack(self, chains: Sequence[str], container_dir: Path, out: BinaryIO) -> None:
        """The container's own layer as a tar, with whiteouts."""


# %% Which driver
def choose(name: str | None, root: Path) -> Driver:
    """The driver called ``name``; without a name overlay, where the host can do it, else vfs."""
    from minidock.unionfs.overlay import OverlayDriver
    from minidock.unionfs.vfs import VfsDriver

    if name in ("overlay", "overlay2"):
        return OverlayDriver(root)
    if name == "vfs":
        return VfsDriver(root)
    if name:
        raise InvalidParameter(f"unknown storage driver {name!r} (overlay or vfs)")
    return OverlayDriver(root) if OverlayDriver.works(root) else VfsDriver(root)
