"""Copying into and out of a container: ``docker cp``.

What travels is a tar archive. Out: the file or directory at a path, under
its own name. In: an archive that is unpacked into a directory that exists.

The trap has a number, CVE-2018-15664. Docker resolved the path in the
container first and then opened what it had found; a program inside that
swapped a directory for a symbolic link in between could make the daemon,
which is root, write anywhere on the *host*. Here it is
the kernel that walks every path, within the container's root, and what has
been opened is used by its descriptor (see :mod:`minidock.transfer`).

A running container has mounts that the host does not see: its root is
looked for in ``/proc/<pid>/root``. If its ids are not the host's, then not
there either: owners are translated, and what is made must be made as its
root, for there is nobody else who could own a file on an idmapped mount.

**Interface:** :class:`Copying`.

**See:** openat2(2); proc_pid_root(5); Engine API, "Get an archive of a
filesystem resource in a container".
"""

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from minidock.engine import remap
from minidock.engine.container import Container
from minidock.engine.remap import Remap
from minidock.errors import Conflict, Forbidden, InvalidParameter, NotFound
from minidock.images import Images
from minidock.linux.identity import act_in_files_as
from minidock.linux.syscalls import openat2
from minidock.spec.timestamp import format_time
from minidock.transfer import INSIDE, PATH, as_they_are, pack, unpack
from minidock.unionfs import Driver

Stat = dict[str, Any]


# %% A container's root
class Copying:
    """Opens the roots of containers, whether they run or not."""

    def __init__(self, images: Images, driver: Driver) -> None:
        self._images = images
        self._driver = driver

    @contextmanager
    def root(self, container: Container) -> Iterator[int]:
        """A descriptor of the root file system; one that does not run is mounted for the time."""
        if container.pid:
            fd = os.open(f"/proc/{container.pid}/root", PATH)
            try:
                yield fd
            finally:
                os.close(fd)
            return
        with container.lock:
            if container.running:
                raise Conflict(f"container {container.id} is starting: try again")
            image = self._images.get(container.record["Image"])
            path = self._driver.mount(self._images.ensure_layers(image), container.directory)
            try:
                fd = os.open(path, PATH)
                try:
                    yield fd
                finally:
                    os.close(fd)
            finally:
                self._driver.unmount(container.directory)

    # %% The three verbs
    def stat(self, container: Container, path: str) -> Stat:
        """What is at ``path``; a link is not followed."""
        with self.root(container) as root:
            fd = open_inside(root, path, os.O_NOFOLLOW, container)
            try:
                return describe(fd, path)
            finally:
                os.close(fd)

    def read(self, container: Container, path: str, out: BinaryIO) -> None:
        """Write the archive of ``path`` to ``out``."""
        with self.root(container) as root:
            follow = 0 if path.endswith(("/", "/.")) else os.O_NOFOLLOW
            fd = open_inside(root, path, follow, container)
            maps = _maps(container)
            owners = maps.inside if maps else as_they_are
            try:
                # A pipe cannot go back, and "|" is tarfile's word for that.
                with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    pack(archive, fd, _name(path), {}, owners)
            finally:
                os.close(fd)

    def write(self, container: Container, path: str, archive: BinaryIO, *, keep_kind: bool) -> None:
        """Unpack ``archive`` into the directory at ``path``.

        ``keep_kind``: a directory does not replace what is none, nor the other way round.
        """
        if container.host_config["ReadonlyRootfs"]:
            raise Forbidden("container rootfs is marked read-only")
        with self.root(container) as root:
            directory = open_inside(root, path, 0, container)
            try:
                if not stat.S_ISDIR(os.fstat(directory).st_mode):
                    raise InvalidParameter("extraction point is not a directory")
                base = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
                where = os.readlink(f"/proc/self/fd/{directory}").removeprefix(base)
                _unpack(archive, root, where or "/", keep_kind, _maps(container))
            finally:
                os.close(directory)


def _maps(container: Container) -> Remap | None:
    """By which maps its owners are seen: one that does not run is mounted without any."""
    return remap.of(container) if container.pid else None


def _unpack(archive: BinaryIO, root: int, where: str, keep_kind: bool, maps: Remap | None) -> None:
    if maps is None:
        unpack(archive, root, where, keep_kind=keep_kind)
        return
    act_in_files_as(*maps.root)  # of this thread alone
    try:
        unpack(archive, root, where, keep_kind=keep_kind, owners=maps.outside)
    finally:
        act_in_files_as(0, 0)


# %% Opening by the kernel's own walk
def open_inside(root: int, path: str, flags: int, container: Container) -> int:
    """An O_PATH descriptor of ``path``, walked within ``root``. :class:`NotFound` in Docker's words."""
    try:
        return openat2(root, path or "/", PATH | flags, resolve=INSIDE)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"Could not find the file {path} in container {container.name}") from None


def _name(path: str) -> str:
    """What Docker calls it in the archive: the last part of the path, also if that is a dot."""
    if path.endswith("/."):
        return "."
    return os.path.basename(os.path.normpath(path)) or "/"


def describe(fd: int, path: str) -> Stat:
    """The API's ``ContainerPathStat``; ``mode`` in the bits of Go's ``os.FileMode``."""
    status = os.fstat(fd)
    link = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(status.st_mode) else b""
    return {
        "name": _name(path),
        "size": status.st_size,
        "mode": go_mode(status.st_mode),
        "mtime": format_time(status.st_mtime_ns),
        "linkTarget": os.fsdecode(link),
    }


def go_mode(mode: int) -> int:
    """From the kernel's bits to Go's: the kinds and the three special bits lie elsewhere."""
    kinds = {
        stat.S_IFDIR: 1 << 31,
        stat.S_IFLNK: 1 << 27,
        stat.S_IFBLK: 1 << 26,
        stat.S_IFIFO: 1 << 25,
        stat.S_IFSOCK: 1 << 24,
        stat.S_IFCHR: 1 << 26 | 1 << 21,
    }
    special = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
    bits = kinds.get(stat.S_IFMT(mode), 0) | mode & 0o777
    return bits | sum(theirs for ours, theirs in special if mode & ours)
