"""Layers as archives: tar to tree, and tree to tar.

A layer travels as a tar archive. What it adds or changes is in it as it is;
what it takes away is a *whiteout*: an empty file ``.wh.name`` says that
``name`` of the layers below is gone, ``.wh..wh..opq`` that nothing of the
layers below shows through in this directory.

A layer comes from a stranger, so every name in it is suspect: ``../../etc``,
``/etc``, or ``link/passwd`` where an earlier entry made ``link`` point to
``/etc``. Checking names is a race; here every parent directory is opened by
the kernel under the rule that the walk must stay below the layer's root
and follow no link (openat2), and the entry is made in that open directory.

The traps: a hard link's target is a name, too; a file may replace a
directory and the other way round; the mode must be set after the owner
(chown(2) takes setuid away), the time after everything; and a truncated
archive must be told from a short one.

**Interface:** :func:`extract`, :func:`pack`.

**See:** tar(5); OCI image specification, layer.md, "Whiteouts"; openat2(2).
"""

import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from minidock.errors import HostileArchive
from minidock.linux.syscalls import Resolve, openat2

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"

DEVICES = {(1, 3), (1, 7), (1, 5), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}  # null full zero …

XATTR = "SCHILY.xattr."


# %% How a driver keeps what a layer takes away
class Whiteouts:
    """Called with an open directory; the default, for a plain tree, deletes."""

    def remove(self, directory: int, name: str) -> None:
        """``name`` of the layers below is gone."""
        remove_entry(directory, name)

    def hide_all(self, directory: int, ours: set[str]) -> None:
        """Nothing of the layers below shows in ``directory``; ``ours`` are of this layer and stay."""
        for name in set(os.listdir(directory)) - ours:
            remove_entry(directory, name)


# %% From tar to tree
def extract(archive: BinaryIO, root: Path, whiteouts: Whiteouts) -> int:
    """Extract an uncompressed tar below ``root``; returns the bytes of its files.

    Raises :class:`HostileArchive`, naming the entry, for one that leaves the
    tree, is a device no container has, or is damaged.
    """
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = _Tree(top, whiteouts)
    try:
        with tarfile.open(fileobj=archive, mode="r|", errorlevel=1, tarinfo=_Header) as source:
            for member in source:
                tree.add(source, member)
        tree.finish()
    except (tarfile.TarError, EOFError) as error:
        raise HostileArchive(f"damaged archive: {error}") from None
    finally:
        tree.close()
        os.close(top)
    return tree.size


class _Header(tarfile.TarInfo):
    """A header that must be whole: tarfile takes a missing or damaged one for the archive's end."""

    @classmethod
    def fromtarfile(cls, source: tarfile.TarFile) -> "_Header":
        """As tarfile does it; only a block of zeros is an end."""
        try:
            return super().fromtarfile(source)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise HostileArchive(f"damaged archive: {error}") from None


class _Tree:
    """The tree under construction; keeps the directory of the last entry open, as entries come in order."""

    def __init__(self, top: int, whiteouts: Whiteouts) -> None:
        self.size = 0
        self._top = top
        self._whiteouts = whiteouts
        self._open: tuple[str, int] = ("", -1)
        self._directories: dict[str, tarfile.TarInfo] = {}
        self._made: dict[str, set[str]] = {}

    def close(self) -> None:
        """Let go of the open directory."""
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = ("", -1)

    def add(self, source: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Make one entry."""
        parent, name = split_name(member.name)
        if not name:
            self._directories[""] = member
            return
        directory = self._directory(parent, member.name)
        try:
            if name == OPAQUE:
                self._whiteouts.hide_all(directory, self._made.get(parent, set()))
            elif name.startswith(WHITEOUT):
                self._whiteouts.remove(directory, _hidden(member.name, name))
            else:
                self._make(source, member, directory, parent, name)
                self._made.setdefault(parent, set()).add(name)
        except OSError as error:
            raise HostileArchive(f"cannot extract {member.name!r}: {error}") from None

    def _directory(self, parent: str, name: str) -> int:
        """The open directory ``parent``, made if it is missing; the kernel keeps us below the top."""
        if self._open[1] >= 0 and self._open[0] == parent:
            return self._open[1]
        self.close()
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            fd = openat2(self._top, parent or ".", flags, resolve=_BENEATH)
        except FileNotFoundError:
            fd = self._make_parents(parent)
        except OSError as error:
            raise HostileArchive(f"entry {name!r} leads out of the layer: {error}") from None
        self._open = (parent, fd)
        return fd

    def _make_parents(self, parent: str) -> int:
        current = os.dup(self._top)
        for part in parent.split("/"):
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=current)
            try:
                deeper = openat2(current, part, os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH)
            except OSError as error:
                raise HostileArchive(
                    f"entry below {parent!r} leads out of the layer: {error}"
                ) from None
            finally:
                os.close(current)
            current = deeper
        return current

    # %% One entry
    def _make(
        self,
        source: tarfile.TarFile,
        member: tarfile.TarInfo,
        directory: int,
        parent: str,
        name: str,
    ) -> None:
        _check_attributes(member)
        if member.isdir():
            _make_directory(directory, name)
            self._directories[f"{parent}/{name}"] = member
            _dress(member, directory, name)
            return
        try:
            self._make_new(source, member, directory, name)
        except FileExistsError:  # of this layer, or (vfs) of one below; seldom, so no look before
            remove_entry(directory, name)
            self._make_new(source, member, directory, name)

    def _make_new(
        self, source: tarfile.TarFile, member: tarfile.TarInfo, directory: int, name: str
    ) -> None:
        """Anything but a directory. Raises :class:`FileExistsError` if there is one of the name."""
        if member.isreg():
            self._make_file(source, member, directory, name)
            return
        if member.islnk():
            self._link(member, directory, name)
            return
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=directory)
        elif member.ischr() or member.isblk() or member.isfifo():
            _make_node(member, directory, name)
        else:
            raise HostileArchive(f"entry {member.name!r} is of unknown type {member.type!r}")
        _dress(member, directory, name)

    def _make_file(
        self, source: tarfile.TarFile, member: tarfile.TarInfo, directory: int, name: str
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            self._write(source, member, fd)
            self.size += member.size
            # Always: in a directory with setgid (a copied parent's) the group is not ours.
            os.fchown(fd, member.uid, member.gid)
            os.fchmod(fd, member.mode & 0o7777)
            _set_attributes(member, fd)
            os.utime(fd, ns=_times(member))
        finally:
            os.close(fd)

    def _write(self, source: tarfile.TarFile, member: tarfile.TarInfo, fd: int) -> None:
        """The content. A plain file's is what comes next in the stream, which saves a detour."""
        content = source.extractfile(member) if member.issparse() else source.fileobj
        assert content is not None
        left = member.size
        while left:
            data = content.read(min(left, 1 << 20))
            if not data:
                raise HostileArchive(f"damaged archive: it ends within {member.name!r}")
            left -= len(data)
            while data:  # write(2) may take less, on a disk that is nearly full
                data = data[os.write(fd, data) :]

    def _link(self, member: tarfile.TarInfo, directory: int, name: str) -> None:
        parent, target = split_name(member.linkname)
        try:
            there = openat2(self._top, parent or ".", os.O_PATH | os.O_DIRECTORY, resolve=_BENEATH)
        except OSError as error:
            raise HostileArchive(
                f"hard link {member.name!r} points to {member.linkname!r}: {error}"
            ) from None
        try:
            os.link(target, name, src_dir_fd=there, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(there)

    def finish(self) -> None:
        """Directories last: what was made in them has changed their times."""
        for path, member in self._directories.items():
            _check_attributes(member)
            try:
                fd = openat2(
                    self._top,
                    path.strip("/") or ".",
                    os.O_RDONLY | os.O_DIRECTORY,
                    resolve=_BENEATH,
                )
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
                continue  # a later entry has put something else in its place
            try:
                os.fchown(fd, member.uid, member.gid)
                os.fchmod(fd, member.mode & 0o7777)
                _set_attributes(member, fd)
                os.utime(fd, ns=_times(member))
            finally:
                os.close(fd)


_BENEATH = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS


# %% Names, nodes, attributes
def split_name(name: str) -> tuple[str, str]:
    """Parent and last part of an entry's name. Raises for a name that climbs out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise HostileArchive(f"entry {name!r} leads out of the layer")
    if "\0" in name:  # the kernel would read the name only up to it
        raise HostileArchive(f"entry {name!r} has a zero byte in its name")
    return ("/".join(parts[:-1]), parts[-1]) if parts else ("", "")


def _hidden(entry: str, name: str) -> str:
    """What a whiteout hides. It is a name like any other: ``.wh...`` means ``..``."""
    hidden = name[len(WHITEOUT) :]
    if hidden in ("", ".", ".."):
        raise HostileArchive(f"whiteout {entry!r} leads out of its directory")
    return hidden


def _make_node(member: tarfile.TarInfo, directory: int, name: str) -> None:
    if member.isfifo():
        os.mkfifo(name, 0o600, dir_fd=directory)
        return
    numbers = (member.devmajor, member.devminor)
    if member.isblk() or numbers not in DEVICES:
        raise HostileArchive(f"entry {member.name!r} is the device {numbers[0]}:{numbers[1]}")
    os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(*numbers), dir_fd=directory)


def _dress(member: tarfile.TarInfo, directory: int, name: str) -> None:
    """Owner, then mode (chown takes setuid away), then time."""
    os.chown(name, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
    if not member.issym():
        os.chmod(name, member.mode & 0o7777, dir_fd=directory)
    os.utime(name, ns=_times(member), dir_fd=directory, follow_symlinks=False)


def _times(member: tarfile.TarInfo) -> tuple[int, int]:
    moment = int(member.mtime * 10**9) if isinstance(member.mtime, float) else member.mtime * 10**9
    return moment, moment


def _check_attributes(member: tarfile.TarInfo) -> None:
    """``trusted.`` attributes are how overlayfs takes notes; an archive must not forge them."""
    for key in member.pax_headers:
        if key.startswith(f"{XATTR}trusted."):
            raise HostileArchive(f"entry {member.name!r} has the attribute {key[len(XATTR) :]}")


def _set_attributes(member: tarfile.TarInfo, fd: int) -> None:
    for key, value in member.pax_headers.items():
        if not key.startswith(XATTR):
            continue
        name = key[len(XATTR) :]
        with suppress(OSError):  # the file system here may not have that kind
            os.setxattr(fd, name, value.encode("utf-8", "surrogateescape"))


def _make_directory(directory: int, name: str) -> None:
    """A directory that is there already stays, with what is in it; anything else makes room."""
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        if not _is_directory(directory, name):
            remove_entry(directory, name)
            os.mkdir(name, 0o700, dir_fd=directory)


def _is_directory(directory: int, name: str) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    return False


def remove_entry(directory: int, name: str) -> None:
    """Whatever is called ``name``, if there is such a thing."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=directory)


# %% From tree to tar
Convert = Callable[[tarfile.TarInfo, os.stat_result, Path], Iterable[tarfile.TarInfo]]


def pack(root: Path, out: BinaryIO, convert: Convert) -> None:
    """Write the tree below ``root`` as a tar; ``convert`` says as which entries each thing goes in.

    Entries come in the order of their names, so that equal trees give equal
    archives.
    """
    links: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as target:
        for path, status in walk(root):
            if stat.S_ISSOCK(status.st_mode):
                continue  # nothing that a layer can hold
            member = _member(target, path, str(path.relative_to(root)), status, links)
            for entry in convert(member, status, path):
                if entry.isreg() and entry.size:
                    with open(path, "rb") as file:
                        target.addfile(entry, file)
                else:
                    target.addfile(entry)


def walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below ``root``, parents first, in the order of names."""
    for entry in sorted(os.scandir(root), key=lambda one: one.name):
        status = entry.stat(follow_symlinks=False)
        path = Path(entry.path)
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from walk(path)


def _member(
    target: tarfile.TarFile,
    path: Path,
    name: str,
    status: os.stat_result,
    links: dict[tuple[int, int], str],
) -> tarfile.TarInfo:
    member = target.gettarinfo(str(path), name)
    member.uname = member.gname = ""
    member.mtime = status.st_mtime_ns // 10**9
    if stat.S_ISREG(status.st_mode):
        member.type, member.linkname, member.size = tarfile.REGTYPE, "", status.st_size
        first = links.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
    member.pax_headers = {
        XATTR + name: os.getxattr(path, name, follow_symlinks=False).decode(
            "utf-8", "surrogateescape"
        )
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith("trusted.")
    }
    return member


def whiteout(name: str) -> tarfile.TarInfo:
    """The entry that says: ``name`` of the layers below is gone."""
    parent, _, last = name.rpartition("/")
    return tarfile.TarInfo(f"{parent}/{WHITEOUT}{last}" if parent else f"{WHITEOUT}{last}")
