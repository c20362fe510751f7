"""Union file systems: many read-only layers and one to write on, seen as one tree.

An image is a stack of layers, which it shares with other images; a
container puts one more on top, which is its own. A *driver* knows how to
make one tree of them. ``overlay`` lets the kernel do it, so that a
container starts in a millisecond and costs nothing until it writes;
``fuse-overlayfs`` has a program do the same; ``btrfs`` and ``devicemapper``
share blocks instead of files; ``vfs`` copies everything, which works
everywhere and shows what is being saved.

The traps: layers may be named by a stranger's archive (see :mod:`.archive`),
and a layer that is half extracted must never be taken for a whole one: it
is built under another name and renamed.

**Interface:** :class:`Driver`, :class:`Change`; :mod:`.choice` knows which there are.

**See:** Linux Documentation/filesystems/overlayfs.rst; moby
``daemon/graphdriver``.
"""

import fcntl
import json
import os
import secrets
import sys
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from minidock import steps
from minidock.errors import Conflict, NotFound
from minidock.linux import syscalls
from minidock.linux.syscalls import Umount
from minidock.paths import read_json, remove_tree, write_json
from minidock.unionfs.archive import Whiteouts, extract
from minidock.unionfs.mapped import detach
from minidock.unionfs.options import LIMITS, limits, read_options
from minidock.unionfs.pack import pack


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
    the lowest; their directories by sixteen digits of it, as many of them
    must fit into one mount option. The note beside a directory has the whole
    chain id, and that decides what the directory holds.
    """

    name: str
    whiteouts: type[Whiteouts]
    alone = False  # a layer can be made before its parent
    known_options: frozenset[str] = LIMITS  # what --storage-opt may set
    own_files: frozenset[str] = frozenset()  # beside the layers, in the same directory

    def __init__(self, root: Path, options: Sequence[str] = ()) -> None:
        self.root = root / self.name
        self.options = read_options(options, self.known_options)
        self.limits = limits(self.options)
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        spread(self.root)
        self._lock = Lock()
        self._owners: dict[str, str] = {}
        self._open()
        self._clear_away()

    def _clear_away(self) -> None:
        """What a daemon that was killed has left: trees without a note, notes half written."""
        for entry in list(os.scandir(self.root)):
            if entry.name in self.own_files:
                continue
            if entry.is_dir() and not os.path.exists(f"{entry.path}.json"):
                self._discard(Path(entry.path))
            elif entry.is_file() and entry.name.startswith("."):
                os.unlink(entry.path)

    # %% What drivers do differently
    @classmethod
    def lacks(cls, root: Path) -> str:
        """Why the driver cannot work on this host, with layers in ``root``; empty if it can."""
        return ""

    def _open(self) -> None:  # noqa: B027 (most need nothing)
        """Make ready what all layers need."""

    def close(self) -> None:  # noqa: B027 (most need nothing)
        """The engine ends, and no container is left that runs."""

    def status(self) -> list[tuple[str, str]]:
        """What ``docker info`` shows below the driver's name."""
        return []

    @abstractmethod
    def _prepare(self, new: Path, parent: str | None) -> None:
        """Make what a layer is extracted into."""

    @contextmanager
    def _filling(self, place: Path) -> Iterator[Path]:
        """The directory to write to, of what was prepared at ``place``."""
        yield place

    def _discard(self, place: Path) -> None:
        """Remove what was prepared at ``place``, however far that came; it may be gone."""
        remove_tree(place)

    @contextmanager
    def layer_tree(self, chain: str) -> Iterator[Path]:
        """The tree of a layer, to look at: its own part, or with all that is below it."""
        with self._filling(self.root / self.directory(chain)) as tree:
            yield tree

    @contextmanager
    def own_tree(self, container_dir: Path) -> Iterator[Path]:
        """What the container has written, or its whole tree. Raises :class:`FileNotFoundError`."""
        with self._filling(container_dir / "upper") as tree:
            yield tree

    # %% Which directory
    def directory(self, chain: str) -> str:
        """The name of a layer's directory, or of the one that it would get.

        Two chain ids may begin alike: by accident hardly ever, but whoever
        wants them to can find a pair in an afternoon. Then the second gets
        the next sixteen digits. Raises :class:`Conflict` when all are taken.
        """
        digits, free = chain.partition(":")[2], ""
        for name in (digits[start : start + 16] for start in range(0, 64, 16)):
            owner = self._owner(name)
            if owner == chain:
                return name
            free = free or ("" if owner else name)
        if not free:
            raise Conflict(f"layer {chain} cannot be kept: other layers have all its names")
        return free

    def _owner(self, name: str) -> str | None:
        """The chain whose layer is in the directory ``name``; notes never change, so each is read once."""
        if name not in self._owners:
            with suppress(FileNotFoundError, ValueError, KeyError):
                self._owners[name] = str(read_json(self.root / f"{name}.json")["chain"])
        return self._owners.get(name)

    def _note(self, chain: str) -> Path:
        return self.root / f"{self.directory(chain)}.json"

    def has_layer(self, chain: str) -> bool:
        """Whether the layer is here, whole."""
        name = self.directory(chain)
        return self._owner(name) == chain and (self.root / f"{name}.json").exists()

    def layer_size(self, chain: str) -> int:
        """The bytes of its files."""
        if not self.has_layer(chain):
            raise NotFound(f"no such layer: {chain}")
        return int(read_json(self._note(chain))["size"])

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
                with self._filling(new) as tree:
                    size = extract(archive, tree, self.whiteouts(), self.limits)
                while archive.read(1 << 20):  # the padding after the end of the archive
                    pass
                self._settle(new, chain, size)
            except BaseException:
                self._discard(new)
                raise

    def _settle(self, new: Path, chain: str, size: int) -> None:
        """Rename it into place; the note that says it is whole comes last."""
        with self._lock:
            if self.has_layer(chain):  # another thread was first, and it may be in use already
                self._discard(new)
                return
            place = self.root / self.directory(chain)
            if place.exists():  # without a note: of a daemon that was killed at this very place
                self._discard(place)
            os.rename(new, place)
            # The tree itself is not flushed to the disk either; after a power failure a layer
            # without a note is extracted again.
            write_json(self._note(chain), {"chain": chain, "size": size}, durable=False)

    def remove_layer(self, chain: str) -> None:
        """Forget the layer; the note goes first."""
        with self._lock:
            if not self.has_layer(chain):
                return
            name = self.directory(chain)
            (self.root / f"{name}.json").unlink(missing_ok=True)
            self._owners.pop(name, None)
            place, old = self.root / name, self.root / f".old-{secrets.token_hex(6)}"
            with suppress(FileNotFoundError):
                os.rename(place, old)
        self._discard(old)

    def layers(self) -> list[str]:
        """The chain ids of all layers."""
        found = []
        for path in self.root.glob("*.json"):
            with suppress(ValueError, KeyError):
                found.append(str(json.loads(path.read_text())["chain"]))
        return found

    # %% Containers
    @abstractmethod
    def mount(self, chains: Sequence[str], container_dir: Path, userns: str = "") -> Path:
        """Make the tree of ``chains`` (lowest first) at ``container_dir/rootfs``; returns that path.

        There may be none: an image can be empty. ``userns``: a user namespace by whose id maps the
        owners of the files are shown.
        """

    def unmount(self, container_dir: Path) -> None:
        """Take the tree away, keep what was written; it may be gone already."""
        with suppress(OSError):
            syscalls.umount(container_dir / "rootfs", Umount.DETACH)
        detach(container_dir)

    def remove(self, container_dir: Path) -> None:
        """Forget what was written, too."""
        self.unmount(container_dir)
        for name in ("upper", "work", "rootfs"):
            self._discard(container_dir / name)

    @abstractmethod
    def changes(self, chains: Sequence[str], container_dir: Path) -> list[Change]:
        """What the container has added, changed and deleted, in the order of paths."""

    def pack(
        self,
        chains: Sequence[str],
        container_dir: Path,
        out: BinaryIO,
        without: Container[str] = (),
    ) -> None:
        """The container's own layer as a tar, with whiteouts; ``without`` paths that are left out.

        It is made of the changes, so that the same acts give the same archive with every driver.
        """
        if not (container_dir / "upper").exists():  # it was never started
            tarfile.open(fileobj=out, mode="w|").close()
            return
        found = self.changes(chains, container_dir)
        kept = {change.path for change in found if change.kind != "D"}
        gone = [change.path[1:] for change in found if change.kind == "D"]

        def convert(
            member: tarfile.TarInfo, status: os.stat_result, path: Path
        ) -> Sequence[tarfile.TarInfo]:
            return [member] if f"/{member.name}" in kept else []

        with self.own_tree(container_dir) as tree:
            pack(tree, out, convert, without, gone)


# %% Where on the disk
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, TOPDIR = 0x80086601, 0x40086602, 0x00020000


def spread(directory: Path) -> None:
    """Have ext4 put each thing that is made in ``directory`` into a part of the disk of its own.

    ext4 keeps things close to the directory they are in. That makes a layer
    slow that is made where another was just deleted: an ext4 without a
    journal does not give an inode out again for five minutes, and for every
    new file it looks at all of those once more (``recently_deleted`` in
    fs/ext4/ialloc.c). This is the attribute ``T`` of chattr(1), which says
    that what is below has little to do with each other.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = int.from_bytes(fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(4)), sys.byteorder)
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, (flags | TOPDIR).to_bytes(4, sys.byteorder))
    except OSError:
        pass  # another file system: it has neither the attribute nor the need
    finally:
        os.close(fd)
