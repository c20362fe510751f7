"""devicemapper: every layer is a block device, a snapshot of the one below.

It is btrfs' idea, one floor down: what is shared is not a file system's
blocks but a disk's, so that any file system will do, here ext4. A layer is
extracted into a mounted snapshot of its parent; a container runs in another
one. In place of a layer's directory there is one with a file ``id``, the
number of its thin device.

The traps. The number is written down *before* the device is made, so that
whoever is killed in between leaves nothing that nobody knows of. A device is
in the kernel only as long as it is mounted; two may look at the same one at
the same time, and the first to end must not take it away from the second
(its removal waits for the last user). And ext4's ``lost+found`` would be in
every image.

**Interface:** :class:`DeviceMapperDriver`.

**See:** :mod:`.thinpool`; moby (before 25.0)
``daemon/graphdriver/devmapper``.
"""

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

from minidock import steps
from minidock.errors import Unavailable
from minidock.linux import syscalls
from minidock.linux.syscalls import Umount
from minidock.paths import remove_tree, write_json
from minidock.unionfs.mapped import mount_mapped
from minidock.unionfs.options import LIMITS
from minidock.unionfs.thinpool import ThinPool, missing
from minidock.unionfs.whole import WholeTreeDriver

BASE = 0  # the thin device with an empty file system, of which all others are snapshots

SIZES = {"dm.loopdatasize": 100 << 30, "dm.loopmetadatasize": 2 << 30, "dm.basesize": 10 << 30}


# %% The driver
class DeviceMapperDriver(WholeTreeDriver):
    """One thin device per layer, and one per container."""

    name = "devicemapper"
    own_files = frozenset({"pool"})
    known_options = LIMITS | SIZES.keys()

    @classmethod
    def lacks(cls, root: Path) -> str:
        """Docker's and our tools are the same."""
        return missing()

    def _open(self) -> None:
        self._sizes = {**SIZES, **self.options}
        self._devices = RLock()
        self._looking: Counter[int] = Counter()
        for tree in self.root.glob("*/tree-*"):  # of a daemon that was killed while it looked
            _end(tree)
        self.pool = ThinPool(
            self.root / "pool", self._sizes["dm.loopdatasize"], self._sizes["dm.loopmetadatasize"]
        )
        self.pool.open()
        ready = self.root / "pool" / "base"
        if not ready.exists():
            self._make_base()
            write_json(self.root / "pool" / "next", BASE + 1)
            ready.touch()

    def close(self) -> None:
        """The pool goes; the files stay."""
        self.pool.close()

    def status(self) -> list[tuple[str, str]]:
        """As Docker says it."""
        used, total = self.pool.usage()
        return [
            ("Pool Name", self.pool.name),
            ("Base Device Size", str(self._sizes["dm.basesize"])),
            ("Data loop file", str(self.pool.directory / "data")),
            ("Metadata loop file", str(self.pool.directory / "metadata")),
            ("Data Space Used", str(used)),
            ("Data Space Total", str(total)),
        ]

    # %% An empty file system
    def _make_base(self) -> None:
        self.pool.delete(BASE)  # half made, by a daemon that was killed
        self.pool.create(BASE)
        device = self.pool.activate(BASE, self._sizes["dm.basesize"])
        try:
            done = subprocess.run(
                ["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1", "-O", "^has_journal", device],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                raise Unavailable(f"mkfs.ext4 {device}: {done.stderr.strip()}")
            with _mounted(device, self.root / "pool") as tree:
                (tree / "lost+found").rmdir()
        finally:
            self.pool.deactivate(BASE)

    # %% Layers
    def _prepare(self, new: Path, parent: str | None) -> None:
        self._branch(self._number(self.root / self.directory(parent)) if parent else BASE, new)

    def _branch(self, origin: int, new: Path) -> None:
        with self._devices:
            new.mkdir(0o700)
            number = self._next()
            write_json(new / "id", number)
            self.pool.snapshot(number, origin)

    def _next(self) -> int:
        """A number that no layer and no container has."""
        counter = self.root / "pool" / "next"
        number = int(counter.read_text())
        write_json(counter, number + 1)
        return number

    def _number(self, place: Path) -> int:
        return int((place / "id").read_text())

    @contextmanager
    def _filling(self, place: Path) -> Iterator[Path]:
        """The device's file system, mounted beside its number for as long as it is looked at."""
        number = self._number(place)
        with self._in_kernel(number) as device, _mounted(device, place) as tree:
            yield tree

    @contextmanager
    def _in_kernel(self, number: int) -> Iterator[str]:
        with self._devices:
            self._looking[number] += 1
            device = self.pool.activate(number, self._sizes["dm.basesize"])
        try:
            yield device
        finally:
            with self._devices:
                self._looking[number] -= 1
                if not self._looking[number]:  # a container's own mount keeps it there, too
                    self.pool.deactivate(number)

    def _discard(self, place: Path) -> None:
        """The device first, then the number."""
        for tree in place.glob("tree-*"):
            _end(tree)
        with suppress(FileNotFoundError, ValueError):
            self.pool.delete(self._number(place))
        remove_tree(place)

    # %% Containers
    def _copy(self, chains: Sequence[str], container_dir: Path) -> None:
        layer = self._number(self.root / self.directory(chains[-1])) if chains else BASE
        with steps.step("snapshot the layers", call="dmsetup(8) create_snap", chapter="unionfs"):
            self._discard(container_dir / "work")  # half made, by a daemon that was killed
            self._branch(layer, container_dir / "work")
            os.rename(container_dir / "work", container_dir / "upper")

    def mount(self, chains: Sequence[str], container_dir: Path, userns: str = "") -> Path:
        """A snapshot of the top layer, the first time; its device is mounted for as long as it runs."""
        target = container_dir / "rootfs"
        target.mkdir(mode=0o755, exist_ok=True)
        if not (container_dir / "upper").exists():
            self._copy(chains, container_dir)
        number = self._number(container_dir / "upper")
        with (
            self._devices,
            steps.step("mount the device", call="mount(2) ext4", chapter="unionfs") as step,
        ):
            device = self.pool.activate(number, self._sizes["dm.basesize"])
            step.undo(self.unmount, container_dir)
            syscalls.mount(device, target, "ext4")
            if userns:
                mount_mapped(target, target, userns)  # on top of the other
        return target

    def unmount(self, container_dir: Path) -> None:
        """Take the tree away, and its device out of the kernel."""
        for _ in range(2):  # there are two of them with a user namespace
            super().unmount(container_dir)
        with suppress(FileNotFoundError, ValueError):
            self.pool.deactivate(self._number(container_dir / "upper"))


# %% A device for a moment
def _end(tree: Path) -> None:
    with suppress(OSError):
        syscalls.umount(tree, Umount.DETACH)
    with suppress(OSError):
        tree.rmdir()


@contextmanager
def _mounted(device: str, place: Path) -> Iterator[Path]:
    """``device`` in a directory of its own below ``place``."""
    tree = Path(tempfile.mkdtemp(prefix="tree-", dir=place))
    try:
        syscalls.mount(device, tree, "ext4")
        yield tree
    finally:
        _end(tree)
