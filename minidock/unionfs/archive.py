"""Layers as archives: from tar to tree (:mod:`.pack` goes the other way).

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
(chown(2) takes setuid away), the time after everything; and an archive that
was cut off must be told from one that its writer ended without the two
blocks of zeros, as some do: the one ends within an entry, the other between
two.

**Interface:** :func:`extract`, :class:`Whiteouts`.

**See:** tar(5); OCI image specification, layer.md, "Whiteouts"; openat2(2).
"""

import errno
import os
import shutil
import stat
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from minidock.errors import HostileArchive
from minidock.linux.syscalls import Resolve, openat2

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"

DEVICES = {(1, 3), (1, 7), (1, 5), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}  # null full zero …

XATTR = "SCHILY.xattr."

LARGEST_READ = 1 << 20  # also what Go's archive/tar takes for a header


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
    """Extract an uncompressed tar below ``root``; returns the bytes of its files and links.

    Raises :class:`HostileArchive`, naming the entry, for one that leaves the
    tree, is a device no container has, or is damaged.
    """
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = _Tree(top, whiteouts)
    try:
        stream = cast(Any, Forward(archive))
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=Header) as source:
            for member in source:
                tree.add(source, member)
        tree.finish()
    except (tarfile.TarError, EOFError) as error:
        raise HostileArchive(f"damaged archive: {error}") from None
    finally:
        tree.close()
        os.close(top)
    return tree.size


# %% Where an archive ends
class Header(tarfile.TarInfo):
    """A header that must be whole: tarfile takes a damaged one, or half of one, for the archive's end."""

    @classmethod
    def fromtarfile(cls, source: tarfile.TarFile) -> "Header":
        """As tarfile does it; only a block of zeros, or nothing at all, is an end."""
        try:
            return super().fromtarfile(source)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise HostileArchive(f"damaged archive: {error}") from None


class Forward:
    """A stream that tarfile may treat as a file: where it wants to seek is always ahead.

    tarfile has a mode for streams, which reads in blocks of 10 KiB and copies
    what is left of one for every header; this saves a third of its time.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._place = 0

    def tell(self) -> int:
        """How much has been read."""
        return self._place

    def read(self, size: int) -> bytes:
        """``size`` bytes, or fewer at the end. Raises :class:`HostileArchive` for a header too large.

        tarfile reads a header as a whole, however long it says it is.
        """
        if size > LARGEST_READ:
            raise HostileArchive(f"damaged archive: a header of {size} bytes")
        data: bytes = self._stream.read(size)
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        self._place += len(data)
        return data

    def seek(self, place: int) -> None:
        """Go forward to ``place``. Raises :class:`HostileArchive` if the stream ends before it."""
        while self._place < place:
            if not self.read(min(place - self._place, LARGEST_READ)):
                raise HostileArchive("damaged archive: it ends within an entry")


# %% The tree under construction
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
            self.size += len(os.fsencode(member.linkname))  # what the kernel says is a link's size
        elif member.ischr() or member.isblk() or member.isfifo():
            _make_node(member, directory, name)
        else:
            raise HostileArchive(f"entry {member.name!r} is of unknown type {member.type!r}")
        _dress(member, directory, name)

    # %% Files and hard links
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
            data = content.read(min(left, LARGEST_READ))
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

    # %% Directories, once more
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


# %% Names
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


# %% Nodes, owners, times, attributes
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


# %% Making room
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
