"""Transfer: files as a tar archive, out of a directory tree and into one that we do not trust.

Whoever owns a tree may change it while we walk it. If we look at a path and
then open it by name, a directory may have become a symbolic link in
between, and we, being root, read or write somewhere else
(CVE-2018-15664). openat2(2) leaves the walk to the kernel: with
RESOLVE_IN_ROOT a directory is the root of all paths, absolute links and
``..`` included, as after chroot(2), for this one call.

The traps. What has been opened is used by its descriptor, never again by
its name; only the last name is given to a call, relative to the descriptor
of its directory, and such calls must not follow links. And an archive is
made by somebody: its names may climb, its links may point anywhere.

**Interface:** :func:`pack`, :func:`unpack`, :func:`reopen`.

**See:** openat2(2), path_resolution(7), tar(5).
"""

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from minidock.errors import Forbidden, InvalidParameter
from minidock.linux.syscalls import Resolve, openat2
from minidock.paths import remove_tree

PATH = os.O_PATH | os.O_CLOEXEC
STAY = Resolve.BENEATH | Resolve.NO_SYMLINKS
INSIDE = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS


# %% Out
def reopen(fd: int, flags: int) -> int:
    """The same file, for reading or writing: an O_PATH descriptor is good for neither."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


Owners = Callable[[int, int], tuple[int, int]]
Seen = dict[tuple[int, int], str]


def as_they_are(uid: int, gid: int) -> tuple[int, int]:
    """Owners on the one side are the same on the other."""
    return uid, gid


def pack(
    archive: tarfile.TarFile, fd: int, name: str, seen: Seen, owners: Owners = as_they_are
) -> None:
    """Add what ``fd`` (O_PATH) is, and what is below it, as ``name``; ``owners`` says whose it is called.

    However deep that is: each thing is opened anew from the top, by a way that follows no link. Raises
    :class:`InvalidParameter` where the way is longer than the kernel takes one.
    """
    waiting = _pack_one(archive, fd, name, seen, owners)
    while waiting:
        entry = waiting.pop()
        try:
            child = openat2(fd, entry, PATH | os.O_NOFOLLOW, resolve=STAY)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise InvalidParameter(f"{name}/{entry[:40]}…: file name too long") from None
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # gone since we looked
                continue
            raise
        try:
            below = _pack_one(archive, child, f"{name.rstrip('/')}/{entry}", seen, owners)
        finally:
            os.close(child)
        waiting += [f"{entry}/{one}" for one in below]


def _pack_one(
    archive: tarfile.TarFile, fd: int, name: str, seen: Seen, owners: Owners
) -> list[str]:
    """Add one thing; returns what is in it, the last name first."""
    status = os.fstat(fd)
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    info.uid, info.gid = owners(status.st_uid, status.st_gid)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        _pack_file(archive, fd, info, status, seen)
    elif kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
        return _listing(fd)
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
    return []  # a socket means nothing in another place


def _listing(directory: int) -> list[str]:
    listing = reopen(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return sorted(os.listdir(listing), reverse=True)
    finally:
        os.close(listing)


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
    """A file that is as long as it was: one that grows or shrinks while it is read must not spoil the archive."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        self._left -= wanted
        return self._file.read(wanted).ljust(wanted, b"\0")


# %% In
Rename = Callable[[list[str]], list[str]]


def unpack(
    archive: BinaryIO,
    root: int,
    where: str = "/",
    *,
    keep_kind: bool = False,
    rename: Rename = lambda parts: parts,
    owners: Owners = as_they_are,
) -> None:
    """Unpack into the directory ``where`` within ``root``; links are followed within ``root``.

    ``keep_kind``: a directory does not replace what is none, nor the other way round. ``rename``
    gives the members other names, ``owners`` other owners. Raises :class:`Forbidden` for an archive
    that climbs, :class:`InvalidParameter` for what is none.
    """
    writer = _Writer(root, where, keep_kind, rename, owners)
    try:
        with tarfile.open(fileobj=archive, mode="r|*") as members:
            for member in members:
                writer.put(members, member)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidParameter(f"not a tar archive: {error}") from None


@dataclass(frozen=True, slots=True)
class _Writer:
    """Puts the members of an archive where they belong."""

    root: int
    where: str
    keep_kind: bool
    rename: Rename
    owners: Owners

    def put(self, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Make one member, in place of what is there."""
        parts = self._parts(member, member.name)
        if not parts:  # the directory itself
            return
        parent = self._make_parents(parts[:-1])
        try:
            _clear(parent, parts[-1], member.isdir(), self.keep_kind)
            if member.islnk():
                self._hard_link(member, parent, parts[-1])
                return
            _make(members, member, parent, parts[-1])
            _own(member, parent, parts[-1], self.owners(member.uid, member.gid))
        finally:
            os.close(parent)

    def _parts(self, member: tarfile.TarInfo, name: str) -> list[str]:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Forbidden(f"{member.name}: leads out of its directory ({name})")
        return self.rename(parts)

    def _make_parents(self, parts: list[str]) -> int:
        """A descriptor of the directory for ``parts``; those that are missing are made."""
        there = len(parts)
        while True:
            path = "/".join([self.where.rstrip("/"), *parts[:there]]) or "/"
            try:
                fd = openat2(self.root, path, PATH | os.O_DIRECTORY, resolve=INSIDE)
                break
            except FileNotFoundError:
                if there == 0:
                    raise
                there -= 1
        for part in parts[there:]:
            try:
                os.mkdir(part, 0o755, dir_fd=fd)
                below = os.open(part, PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _hard_link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        target = self._parts(member, member.linkname)
        if not target:
            raise Forbidden(f"{member.name}: a link to nothing")
        source = self._make_parents(target[:-1])
        try:
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)


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
        remove_tree(Path(f"/proc/{os.getpid()}/fd/{parent}/{name}"))
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
        raise Forbidden(f"{member.name}: devices are not copied")


def _is_there(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _own(member: tarfile.TarInfo, parent: int, name: str, owner: tuple[int, int]) -> None:
    """Owner, then mode (a change of owner takes the special bits away), then time."""
    os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
    if not member.issym():
        fd = os.open(name, PATH | os.O_NOFOLLOW, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{fd}", member.mode & 0o7777)
        finally:
            os.close(fd)
    os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
