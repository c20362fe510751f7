"""From tree to tar: a container's own layer as an archive, or all that it sees.

What a layer takes away has no file; what says so lies in the tree in the
driver's own way (overlayfs: a device 0:0), and becomes a whiteout here. So
the driver says what goes in, and what is gone.

The traps. *Equal trees must give equal archives*, or a digest says nothing:
names come in the order of their bytes, the time is that of the last change
of the content and has whole seconds, headers of the long kind stand only
where the short ones will not do, and users' and groups' names are left out,
because they are those of this host. A second name of the same file is a hard
link, or it would come back as two files. And the tree may belong to a
container that runs: a file may be gone when we come to it, or shorter, and a
directory may have become a link that leads out of the tree; so everything is
opened below the tree's root by openat2(2), which follows no link.

**Interface:** :func:`pack`, :func:`walk`, :func:`whiteout`.

**See:** tar(5); openat2(2); OCI image specification, layer.md, "Change Types".
"""

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO, cast

from minidock.errors import Unavailable
from minidock.linux.syscalls import Resolve, openat2
from minidock.unionfs.archive import WHITEOUT
from minidock.unionfs.dress import DRIVERS_OWN, XATTR

# %% From tree to tar
Convert = Callable[[tarfile.TarInfo, os.stat_result, Path], Iterable[tarfile.TarInfo]]


def as_it_is(
    member: tarfile.TarInfo, status: os.stat_result, path: Path
) -> Iterable[tarfile.TarInfo]:
    """For a plain tree: one entry for each thing."""
    return (member,)


def pack(
    root: Path,
    out: BinaryIO,
    convert: Convert = as_it_is,
    without: Container[str] = (),
    gone: Iterable[str] = (),
) -> None:
    """Write the tree below ``root`` as a tar; ``convert`` says as which entries each thing goes in.

    ``without``: paths (they begin with a slash) that are left out. ``gone``: names that the layers
    below have and this one takes away; each becomes a whiteout, where its name would stand.
    """
    missing = sorted((name for name in gone if f"/{name}" not in without), key=order, reverse=True)
    links: dict[tuple[int, int], str] = {}
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # By its descriptor a tree can be walked even when it is unmounted meanwhile, as the root of a
    # container is that ends; by its name everything in it would seem to be gone.
    root = Path(f"/proc/self/fd/{top}")
    try:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as target:
            for path, _ in walk(root):
                name = str(path.relative_to(root))
                while missing and order(missing[-1]) < order(name):
                    target.addfile(whiteout(missing.pop()))
                if f"/{name}" not in without:
                    with suppress(FileNotFoundError, NotADirectoryError):  # gone in the meantime
                        _add(target, top, name, path, links, convert)
            for name in reversed(missing):
                target.addfile(whiteout(name))
    finally:
        os.close(top)


def order(name: str) -> list[bytes]:
    """What names are sorted by, so that a directory is followed by what is in it."""
    return os.fsencode(name).split(b"/")


def walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below ``root``, parents first, in the order of names.

    A tree may be deeper than Python's calls may nest, and its names longer together than the kernel
    takes a path: then raises :class:`Unavailable`.
    """
    waiting = _listing(str(root))
    while waiting:
        entry = waiting.pop()
        try:
            status = entry.stat(follow_symlinks=False)
            below = _listing(entry.path) if stat.S_ISDIR(status.st_mode) else []
        except (FileNotFoundError, NotADirectoryError):  # gone in the meantime
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise Unavailable(
                f"{entry.path[len(str(root)) :][:40]}…, {len(entry.path)} bytes: file name too long"
            ) from None
        yield Path(entry.path), status
        waiting += below


def _listing(directory: str) -> list["os.DirEntry[str]"]:
    """The last name first."""
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda one: os.fsencode(one.name), reverse=True)


# %% One thing
STAY = Resolve.BENEATH | Resolve.NO_SYMLINKS


def _add(
    target: tarfile.TarFile,
    top: int,
    name: str,
    path: Path,
    links: dict[tuple[int, int], str],
    convert: Convert,
) -> None:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = openat2(top, name, flags, resolve=STAY)
    except OSError as error:
        if error.errno == errno.ELOOP:  # a directory above has become a link in the meantime
            return
        raise
    try:
        status = os.fstat(fd)
        if stat.S_ISSOCK(status.st_mode):
            return  # nothing that a layer can hold
        for entry in convert(_member(fd, name, status), status, path):
            if entry.isreg() and status.st_nlink > 1:
                _link(entry, links.setdefault((status.st_dev, status.st_ino), name))
            if entry.isreg() and entry.size:
                with open(f"/proc/self/fd/{fd}", "rb") as file:
                    target.addfile(entry, cast("IO[bytes]", _Exactly(file)))
            else:
                target.addfile(entry)
    finally:
        os.close(fd)


def _link(entry: tarfile.TarInfo, first: str) -> None:
    """Only the first of a file's names has its content. (Whiteouts are links of each other, too.)"""
    if entry.name != first:
        entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first, 0


KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _member(fd: int, name: str, status: os.stat_result) -> tarfile.TarInfo:
    """The header. ``fd`` is opened by O_PATH: it is the thing itself, even if that is a link."""
    member = tarfile.TarInfo(name)
    member.type = KINDS[stat.S_IFMT(status.st_mode)]
    member.mode, member.mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns // 10**9
    member.uid, member.gid = status.st_uid, status.st_gid
    if member.issym():
        member.linkname = os.readlink("", dir_fd=fd)
    elif member.isdev() and not member.isfifo():
        member.devmajor, member.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif member.isreg():
        member.size = status.st_size
    member.pax_headers = _attributes(f"/proc/self/fd/{fd}")
    return member


def _attributes(place: str) -> dict[str, str]:
    """Extended attributes, file capabilities among them, but for those that are a driver's notes."""
    return {
        XATTR + name: os.getxattr(place, name).decode("utf-8", "surrogateescape")
        for name in sorted(os.listxattr(place))
        if not name.startswith(DRIVERS_OWN)
    }


# %% Whiteouts, and files that shrink
def whiteout(name: str) -> tarfile.TarInfo:
    """The entry that says: ``name`` of the layers below is gone."""
    parent, _, last = name.rpartition("/")
    return tarfile.TarInfo(f"{parent}/{WHITEOUT}{last}" if parent else f"{WHITEOUT}{last}")


class _Exactly:
    """A file whose size has been promised; should it have become shorter, zeros follow."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """``size`` bytes; tarfile asks for no more than the header says."""
        data = self._file.read(size)
        return data + bytes(size - len(data))
