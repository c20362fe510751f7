"""Copying into and out of a container: ``docker cp``.

What travels is a tar archive. Out: the file or directory at a path, under
its own name. In: an archive that is unpacked into a directory that exists.

The trap has a number, CVE-2018-15664. Docker resolved the path in the
container first and then opened what it had found; a program inside that
swapped a directory for a symbolic link in between could make the daemon,
which is root, write anywhere on the *host*. Here every path is opened by
openat2(2) with RESOLVE_IN_ROOT, so that it is the kernel that walks it, and
no link, however it changes, leads out of the container's root; and what
has been opened is used by its descriptor, never again by its name.

A running container has mounts that the host does not see: its root is
looked for in ``/proc/<pid>/root``.

**Interface:** :class:`Copying`.

**See:** openat2(2); proc_pid_root(5); Engine API, "Get an archive of a
filesystem resource in a container".
"""

import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

from minidock.engine.container import Container
from minidock.errors import Conflict, Forbidden, InvalidParameter, NotFound
from minidock.images import Images
from minidock.linux.syscalls import Resolve, openat2
from minidock.spec.timestamp import format_time
from minidock.unionfs import Driver

Stat = dict[str, Any]

CLOEXEC_PATH = os.O_PATH | os.O_CLOEXEC
INSIDE = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS


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
            fd = os.open(f"/proc/{container.pid}/root", CLOEXEC_PATH)
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
                fd = os.open(path, CLOEXEC_PATH)
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
            try:
                # A pipe cannot go back, and "|" is tarfile's word for that.
                with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    pack(archive, fd, _name(path), {})
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
                unpack(archive, root, directory, keep_kind)
            finally:
                os.close(directory)


# %% Opening by the kernel's own walk
def open_inside(root: int, path: str, flags: int, container: Container) -> int:
    """An O_PATH descriptor of ``path``, walked within ``root``. :class:`NotFound` in Docker's words."""
    try:
        return openat2(root, path or "/", CLOEXEC_PATH | flags, resolve=INSIDE)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"Could not find the file {path} in container {container.name}") from None


def reopen(fd: int, flags: int) -> int:
    """The same file, for reading or writing: an O_PATH descriptor is good for neither."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def _name(path: str) -> str:
    """What Docker calls it in the archive: the last part of the path."""
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


# %% Out
def pack(archive: tarfile.TarFile, fd: int, name: str, seen: dict[tuple[int, int], str]) -> None:
    """Add what ``fd`` (O_PATH) is, and what is below it, as ``name``."""
    status = os.fstat(fd)
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    info.uid, info.gid = status.st_uid, status.st_gid
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        _pack_file(archive, fd, info, status, seen)
    elif kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
        _pack_entries(archive, fd, name, seen)
    elif kind == stat.S_IFLNK:
        info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(os.readlink(b"", dir_fd=fd))
        archive.addfile(info)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        archive.addfile(info)
    elif kind == stat.S_IFIFO:
        info.type = tarfile.FIFOTYPE
        archive.addfile(info)
    # A socket means nothing in another place.


def _pack_file(
    archive: tarfile.TarFile,
    fd: int,
    info: tarfile.TarInfo,
    status: os.stat_result,
    seen: dict[tuple[int, int], str],
) -> None:
    known = seen.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
    if known is not None:
        info.type, info.linkname = tarfile.LNKTYPE, known
        archive.addfile(info)
        return
    seen[(status.st_dev, status.st_ino)] = info.name
    info.size = status.st_size
    with open(reopen(fd, os.O_RDONLY), "rb") as file:
        archive.addfile(info, cast(IO[bytes], _Exactly(file, info.size)))


class _Exactly:
    """A file that is as long as it was: one that grows while it is read must not spoil the archive."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left)) or b"\0" * min(size, self._left)
        self._left -= len(data)
        return data


def _pack_entries(
    archive: tarfile.TarFile, fd: int, name: str, seen: dict[tuple[int, int], str]
) -> None:
    listing = reopen(fd, os.O_RDONLY | os.O_DIRECTORY)
    try:
        entries = sorted(os.listdir(listing))
    finally:
        os.close(listing)
    for entry in entries:
        try:
            child = os.open(entry, CLOEXEC_PATH | os.O_NOFOLLOW, dir_fd=fd)
        except FileNotFoundError:  # it has gone since we looked
            continue
        try:
            pack(archive, child, f"{name.rstrip('/')}/{entry}", seen)
        finally:
            os.close(child)


# %% In
def unpack(archive: BinaryIO, root: int, directory: int, keep_kind: bool) -> None:
    """Unpack into ``directory``; links are followed within the container, as its programs would."""
    base = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
    where = os.readlink(f"/proc/self/fd/{directory}").removeprefix(base) or "/"
    try:
        with tarfile.open(fileobj=archive, mode="r|*") as members:
            for member in members:
                parts = [part for part in member.name.split("/") if part not in ("", ".")]
                if ".." in parts:
                    raise Forbidden(f"{member.name}: the archive climbs out of its directory")
                _put(members, member, root, where, parts, keep_kind)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidParameter(f"not a tar archive: {error}") from None


def _put(
    members: tarfile.TarFile,
    member: tarfile.TarInfo,
    root: int,
    where: str,
    parts: list[str],
    keep_kind: bool,
) -> None:
    if not parts:  # the directory itself
        return
    parent = _make_parents(root, where, parts[:-1])
    try:
        name = parts[-1]
        _clear(parent, name, member.isdir(), keep_kind)
        if member.islnk():
            _hard_link(root, where, member, parent, name)
            return
        _make(members, member, parent, name)
        _own(member, parent, name)
    finally:
        os.close(parent)


def _make_parents(root: int, where: str, parts: list[str]) -> int:
    """A descriptor of the directory for ``parts``; those that are missing are made."""
    path = where
    fd = openat2(root, path, CLOEXEC_PATH | os.O_DIRECTORY, resolve=INSIDE)
    for part in parts:
        path = f"{path.rstrip('/')}/{part}"
        try:
            below = openat2(root, path, CLOEXEC_PATH | os.O_DIRECTORY, resolve=INSIDE)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=fd)
            below = os.open(part, CLOEXEC_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def _clear(parent: int, name: str, is_directory: bool, keep_kind: bool) -> None:
    """Make room: a directory is merged with one that is there, all else replaces what is there."""
    try:
        there = stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    if keep_kind and there != is_directory:
        what = "directory" if there else "non-directory"
        other = "non-directory" if there else "directory"
        raise InvalidParameter(f"cannot overwrite {what} {name!r} with {other} {name!r}")
    if there and is_directory:
        return
    if there:
        import shutil

        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


# %% One member of the archive
def _make(members: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    if member.isdir():
        if not _is_there(parent, name):
            os.mkdir(name, 0o700, dir_fd=parent)
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=parent)
    elif member.isreg():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        source = members.extractfile(member)
        with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            while source is not None and (data := source.read(256 * 1024)):
                file.write(data)
    elif member.isfifo():
        os.mkfifo(name, 0o600, dir_fd=parent)
    else:
        raise Forbidden(f"{member.name}: devices are not copied into a container")


def _is_there(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _hard_link(root: int, where: str, member: tarfile.TarInfo, parent: int, name: str) -> None:
    target = [part for part in member.linkname.split("/") if part not in ("", ".")]
    if ".." in target or not target:
        raise Forbidden(f"{member.name}: links out of its directory ({member.linkname})")
    source = _make_parents(root, where, target[:-1])
    try:
        os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(source)


def _own(member: tarfile.TarInfo, parent: int, name: str) -> None:
    """Owner, then mode (a change of owner takes the special bits away), then time."""
    os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
    if not member.issym():
        fd = os.open(name, CLOEXEC_PATH | os.O_NOFOLLOW, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{fd}", member.mode & 0o7777)
        finally:
            os.close(fd)
    os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
