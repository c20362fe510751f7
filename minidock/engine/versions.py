"""Versions: what a container has changed, kept as an image, as git keeps a commit.

``diff`` says what has changed, ``commit`` keeps it as one more layer,
``export`` writes out all that the container sees. A container's own layer
lies in a directory (see :mod:`minidock.unionfs`), so all three are a walk
over a tree.

The traps. The engine itself puts things into a container: files that are
mounted over ``/etc/hosts`` and its like need something to be mounted on, and
that is no change of the container's. While a tree is read, programs may
write; so the container is frozen for the time, unless somebody says no. A
daemon that is killed just then must not leave it frozen: a note beside the
container says who froze it.

**Interface:** :class:`Versions`, :class:`Wish`.

**See:** Engine API, "ImageCommit", "ContainerExport", "ContainerChanges";
moby ``daemon/commit.go``; cgroups(7), "freezer".
"""

import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from minidock import steps
from minidock.engine import remap
from minidock.engine.container import Container
from minidock.engine.lifecycle import Lifecycle
from minidock.engine.remap import Remap
from minidock.errors import Conflict, NotModified
from minidock.images.changes import apply
from minidock.images.commit import Note
from minidock.spec.codec import decode
from minidock.spec.image import Execution
from minidock.unionfs import Change
from minidock.unionfs.pack import Convert, as_it_is, pack

Body = dict[str, Any]


# %% What somebody wants of a commit
@dataclass(frozen=True, slots=True)
class Wish:
    """``changes`` are lines of a Dockerfile, ``config`` what the image's configuration is to have."""

    name: str | None = None
    author: str = ""
    comment: str = ""
    pause: bool = True
    changes: Sequence[str] = ()
    config: Body | None = None


FROZEN = "frozen-for-commit"


class Versions:
    """Containers become images, or archives."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._images = lifecycle.images
        self._driver = lifecycle.driver
        self._holders = Counter[str]()  # how many commits want a container to stand still
        self._lock = Lock()

    # %% commit
    def commit(self, container: Container, wish: Wish) -> str:
        """Keep what the container has changed; returns the new image's id."""
        run = apply(wish.changes, _execution(container, wish.config))
        base = self._images.get(container.record["Image"])
        command = " ".join([*(container.config["Cmd"] or ())])
        note = Note(command, wish.author, wish.comment)

        def write(out: BinaryIO) -> None:
            chains = self._images.ensure_layers(base)
            self._driver.pack(chains, container.directory, out, self._not_its_own(container))

        if container.removing or container.removed:
            raise Conflict(f"You cannot commit container {container.id} which is being removed")
        with self._held(container, wish.pause):
            made = self._images.commit(base, write, run, note, wish.name)
        about = {"comment": wish.comment, "imageID": made, "imageRef": wish.name or ""}
        self._lifecycle.tell(container, "commit", **about)
        return made

    @contextmanager
    def _held(self, container: Container, wanted: bool) -> Iterator[None]:
        """The container stands still while this lasts; one that is paused already stays so.

        Several may want it at the same time: the first freezes it, the last lets it go on.
        """
        with self._lock:
            others = self._holders[container.id]
            held = wanted and (others > 0 or container.status == "running")
            if held:
                if not others:
                    self._freeze(container)
                self._holders[container.id] += 1
        try:
            yield
        finally:
            if held:
                self._let_go(container)

    def _let_go(self, container: Container) -> None:
        with self._lock:
            self._holders[container.id] -= 1
            if not self._holders[container.id]:
                del self._holders[container.id]
                thaw(self._lifecycle, container)

    def _freeze(self, container: Container) -> None:
        (container.directory / FROZEN).touch()
        try:
            with steps.step("freeze the container", call="cgroup.freeze", chapter="versions"):
                self._lifecycle.pause(container, True)
        except BaseException:
            thaw(self._lifecycle, container)
            raise

    # %% diff
    def changes(self, container: Container) -> list[Body]:
        """What it has changed in its file system; not what the engine put there for it."""
        kinds = {"C": 0, "A": 1, "D": 2}
        hidden = self._not_its_own(container)
        return [
            {"Path": one.path, "Kind": kinds[one.kind]}
            for one in self._all_changes(container)
            if one.path not in hidden
        ]

    def _all_changes(self, container: Container) -> list[Change]:
        image = self._images.get(container.record["Image"])
        return self._driver.changes(self._images.ensure_layers(image), container.directory)

    def _not_its_own(self, container: Container) -> set[str]:
        """Mount points that we made, and directories that are there, or changed, only for them."""
        targets = OURS | {mount["Target"] for mount in container.host_config["Mounts"]}
        ours: set[str] = set()
        busy: set[str] = set()  # directories with something of the container's own in them
        made: set[str] = set()  # directories with something of ours in them
        for one in reversed(self._all_changes(container)):  # children before parents
            above = one.path.rpartition("/")[0]
            mine = one.path in targets or (one.path in made and not self._touched(container, one))
            if mine and one.kind != "D" and one.path not in busy:
                ours.add(one.path)
                made.add(above)
            else:
                busy.add(above)
        return ours

    def _touched(self, container: Container, change: Change) -> bool:
        """Whether a directory with mount points has other attributes, too, than it had."""
        if change.kind == "A":
            return change.path not in OURS_TO_MAKE
        image = self._images.get(container.record["Image"])
        before = self._below(self._images.ensure_layers(image), change.path[1:])
        with self._driver.own_tree(container.directory) as tree:
            return before != _attributes(tree / change.path[1:])

    def _below(self, chains: Sequence[str], name: str) -> tuple[int, int, int] | None:
        """What ``name`` is like in the topmost layer that has it."""
        for chain in reversed(chains):
            with self._driver.layer_tree(chain) as tree, suppress(FileNotFoundError):
                return _attributes(tree / name)
        return None

    # %% export
    def export(self, container: Container, out: BinaryIO) -> None:
        """All that the container sees, without what is mounted in it, as a tar."""
        with self._tree(container) as (root, maps):
            pack(root, out, as_it_is if maps is None else _inside(maps))
        self._lifecycle.tell(container, "export")

    @contextmanager
    def _tree(self, container: Container) -> Iterator[tuple[Path, Remap | None]]:
        """Its root on the host, and by which maps its owners are seen there.

        One that does not run is mounted for the time, without maps.
        """
        if container.running:
            yield container.directory / "rootfs", remap.of(container)
            return
        with container.lock:
            if container.running:
                raise Conflict(f"container {container.id} is starting: try again")
            image = self._images.get(container.record["Image"])
            chains = self._images.ensure_layers(image)
            try:
                yield self._driver.mount(chains, container.directory), None
            finally:
                self._driver.unmount(container.directory)


def _inside(maps: Remap) -> Convert:
    """Owners as the container knows them."""

    def convert(
        member: tarfile.TarInfo, status: os.stat_result, path: Path
    ) -> Sequence[tarfile.TarInfo]:
        member.uid, member.gid = maps.inside(member.uid, member.gid)
        return [member]

    return convert


# %% Standing still
def thaw(lifecycle: Lifecycle, container: Container) -> None:
    """Let it go on if it was frozen for a commit; it may have ended meanwhile."""
    note = container.directory / FROZEN
    if not note.exists():
        return
    with suppress(Conflict, NotModified, OSError):
        lifecycle.pause(container, False)
    note.unlink(missing_ok=True)


# %% What is ours
OURS_TO_MAKE = {"/dev", "/etc", "/proc", "/sbin", "/sys"}
OURS = {
    "/dev", "/proc", "/sys", "/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm",
    "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/sbin/docker-init",
}  # fmt: skip


def _attributes(place: Path) -> tuple[int, int, int]:
    status = place.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


# %% How it ran
FIELDS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
    "StopSignal", "StopTimeout", "Healthcheck", "Shell", "OnBuild",
)  # fmt: skip


def _execution(container: Container, config: Body | None) -> Execution:
    """The container's own, as it was made, with what ``config`` says otherwise."""
    own: Body = {name: container.config.get(name) for name in FIELDS}
    new: Body = {name: (config or {}).get(name) for name in FIELDS}
    merged = {name: new[name] or own[name] for name in FIELDS}
    for name in ("ExposedPorts", "Labels", "Volumes"):
        merged[name] = {**(own[name] or {}), **(new[name] or {})}
    given = {entry.partition("=")[0] for entry in new["Env"] or ()}
    kept = [entry for entry in own["Env"] or () if entry.partition("=")[0] not in given]
    merged["Env"] = [*(new["Env"] or ()), *kept]
    if new["Entrypoint"]:  # the old command's words are not meant for it
        merged["Cmd"] = new["Cmd"]
    return decode(Execution, merged)
