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
directory and the other way round; and what an archive means must not depend
on the driver, though some have the layers below in the same tree and others
do not. So it is written down what *this* layer has made, and only that can
be linked to, or stand in the way.

**Interface:** :func:`extract`, :class:`Whiteouts`.

**See:** tar(5); OCI image specification, layer.md, "Whiteouts"; openat2(2).
"""

import errno
import os
import stat
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from minidock.errors import HostileArchive
from minidock.linux.syscalls import Resolve, openat2
from minidock.paths import remove_tree
from minidock.unionfs.dress import check, dress, dress_open, make_node
from minidock.unionfs.options import Limits
from minidock.unionfs.stream import reading, write_content

WHITEOUT, OPAQUE, AUFS_OWN = ".wh.", ".wh..wh..opq", ".wh..wh."


# %% How a driver keeps what a layer takes away
class Whiteouts:
    """Called with an open directory; the default, for a plain tree, deletes."""

    def remove(self, directory: int, name: str) -> None:
        """``name`` of the layers below is gone; this layer has nothing of that name."""
        remove_entry(directory, name)

    def hide_all(self, directory: int, ours: set[str]) -> None:
        """Nothing of the layers below shows in ``directory``; ``ours`` are of this layer and stay."""
        for name in set(os.listdir(directory)) - ours:
            remove_entry(directory, name)


# %% From tar to tree
def extract(
    archive: BinaryIO, root: Path, whiteouts: Whiteouts, limits: Limits | None = None
) -> int:
    """Extract an uncompressed tar below ``root``; returns the bytes of its files and links.

    Raises :class:`HostileArchive`, naming the entry, for one that leaves the
    tree, is a device no container has, is damaged, or larger than ``limits``.
    """
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = _Tree(top, whiteouts, limits or Limits())
    try:
        with reading(archive) as source:
            for member in source:
                vars(source)["members"] = []  # or tarfile would keep all of them
                tree.add(source, member)
            tree.finish()
    finally:
        tree.close()
        os.close(top)
    return tree.size


# %% The tree under construction
class _Tree:
    """Keeps the directory of the last entry open, as entries come in order.

    ``_made`` is what this layer has in each directory, even where the layers below have it, too.
    """

    def __init__(self, top: int, whiteouts: Whiteouts, limits: Limits) -> None:
        self.size = 0
        self._entries = 0
        self._limits = limits
        self._top = top
        self._whiteouts = whiteouts
        self._open: tuple[str, int] = ("", -1)
        self._directories: dict[str, tarfile.TarInfo] = {}
        self._made: dict[str, set[str]] = {"": set()}

    def close(self) -> None:
        """Let go of the open directory."""
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = ("", -1)

    def add(self, source: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Make one entry."""
        parent, name = split_name(member.name)
        self._count(member)
        check(member)
        if not name:
            self._directories[""] = member
            return
        if f"{parent}/{name}".lstrip("/").startswith(AUFS_OWN) and (parent or name != OPAQUE):
            return  # notes of AUFS, which it kept in the top directory
        if is_reserved(parent):
            raise HostileArchive(f"entry {shown(member.name)} is in a whiteout, not in a directory")
        try:
            directory = self._directory(parent, member.name)
            if name.startswith(WHITEOUT):
                self._take_away(directory, parent, name, member.name)
            else:
                self._make(source, member, directory, parent, name)
                self._made[parent].add(name)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise HostileArchive(f"cannot extract {shown(member.name)}: {why}") from None

    def _count(self, member: tarfile.TarInfo) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise HostileArchive(
                f"the layer has more than {self._limits.entries} entries (--storage-opt layer.entries)"
            )
        if member.isreg() and self.size + member.size > self._limits.size:
            raise HostileArchive(
                f"the layer has more than {self._limits.size} bytes, with {member.name!r}"
                " (--storage-opt layer.size)"
            )

    # %% The way to an entry
    def _directory(self, parent: str, name: str) -> int:
        """The open directory ``parent``, made if it is missing; the kernel keeps us below the top."""
        if self._open[1] >= 0 and self._open[0] == parent:
            return self._open[1]
        self.close()
        if parent.count("/") >= self._limits.deepest:
            raise HostileArchive(
                f"entry {shown(name)} is more than {self._limits.deepest} directories deep"
            )
        try:
            fd = _descend(self._top, parent or ".")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            fd = self._make_parents(parent, name)
        self._open = (parent, fd)
        self._made_parents(parent)
        return fd

    def _made_parents(self, path: str) -> None:
        """``path`` is this layer's, and so is every directory above it."""
        while path:
            self._made.setdefault(path, set())
            above, _, name = path.rpartition("/")
            there = self._made.setdefault(above, set())
            if name in there:
                return
            there.add(name)
            path = above

    def _make_parents(self, parent: str, entry: str) -> int:
        """What is of the layers below makes room, as it would be hidden; what is of this layer stays."""
        current, way = os.dup(self._top), ""
        for part in parent.split("/"):
            try:
                if part in self._made.get(way, ()) and not _is_directory(current, part):
                    raise HostileArchive(
                        f"entry {entry!r} leads out of the layer: {part!r} is no directory:"
                        f" {os.strerror(errno.ELOOP)}"
                    )
                self._make_directory(current, way, part, 0o755)
                deeper = _descend(current, part)
            finally:
                os.close(current)
            current, way = deeper, f"{way}/{part}".lstrip("/")
        return current

    # %% What a layer takes away
    def _take_away(self, directory: int, parent: str, name: str, entry: str) -> None:
        """Whiteouts say something about the layers below; what this one has made stays."""
        if name == OPAQUE:
            self._hide_all(parent)
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in ("", ".", "..") or hidden.startswith(WHITEOUT):
            raise HostileArchive(f"whiteout {entry!r} leads out of its directory")
        if hidden not in self._made[parent]:
            self._whiteouts.remove(directory, hidden)

    def _hide_all(self, parent: str) -> None:
        """Nothing of the layers below, here and in the directories that this layer has here."""
        waiting = [parent]
        while waiting:
            path = waiting.pop()
            directory, ours = _descend(self._top, path or "."), self._made.get(path, set())
            try:
                self._whiteouts.hide_all(directory, ours)
                deeper = [name for name in ours if _is_directory(directory, name)]
            finally:
                os.close(directory)
            waiting += [f"{path}/{name}".lstrip("/") for name in deeper]

    # %% One entry
    def _make(
        self,
        source: tarfile.TarFile,
        member: tarfile.TarInfo,
        directory: int,
        parent: str,
        name: str,
    ) -> None:
        if member.isdir():
            self._make_directory(directory, parent, name, 0o700)
            self._directories[f"{parent}/{name}"] = member  # it is dressed at the end
            return
        try:
            self._make_new(source, member, directory, name)
        except FileExistsError:  # of this layer, or (vfs) of one below; seldom, so no look before
            remove_entry(directory, name)
            self._make_new(source, member, directory, name)

    def _make_directory(self, directory: int, parent: str, name: str, mode: int) -> None:
        """A directory that is there stays, with what is in it; anything else makes room.

        If it was a whiteout, or a file that hid what is below, the new directory must go on hiding.
        """
        try:
            os.mkdir(name, mode, dir_fd=directory)
        except FileExistsError:
            if _is_directory(directory, name):
                return
            remove_entry(directory, name)
            os.mkdir(name, mode, dir_fd=directory)
            path = f"{parent}/{name}".lstrip("/")
            self._made[path] = set()
            self._hide_all(path)

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
            make_node(member, directory, name)
        else:
            raise HostileArchive(f"entry {member.name!r} is of unknown type {member.type!r}")
        dress(member, directory, name)

    # %% Files and hard links
    def _make_file(
        self, source: tarfile.TarFile, member: tarfile.TarInfo, directory: int, name: str
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            write_content(source, member, fd)
            self.size += member.size
            dress_open(member, fd)
        finally:
            os.close(fd)

    def _link(self, member: tarfile.TarInfo, directory: int, name: str) -> None:
        """Another name for a file of this layer. (The layers below need not be within reach.)"""
        parent, target = split_name(member.linkname)
        try:
            if target not in self._made.get(parent, ()):
                raise FileNotFoundError(errno.ENOENT, "the layer has no such file")
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
            try:
                fd = _descend(self._top, path.strip("/") or ".")
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
                continue  # a later entry has put something else in its place
            try:
                dress_open(member, fd)
            finally:
                os.close(fd)


# %% Names
def is_reserved(name: str) -> bool:
    """Whether it, or a directory above, has a name that no layer can hold, as it means a whiteout."""
    return f"/{WHITEOUT}" in f"/{name}"


_BENEATH = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS


def _descend(directory: int, path: str) -> int:
    """Open a directory below ``directory``, by a way that follows no link."""
    return openat2(directory, path, os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH)


def split_name(name: str) -> tuple[str, str]:
    """Parent and last part of an entry's name. Raises for a name that climbs out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise HostileArchive(f"entry {name!r} leads out of the layer")
    if "\0" in name:  # the kernel would read the name only up to it
        raise HostileArchive(f"entry {name!r} has a zero byte in its name")
    return ("/".join(parts[:-1]), parts[-1]) if parts else ("", "")


def shown(name: str) -> str:
    """A name in an error: it may be a megabyte long."""
    return repr(name) if len(name) <= 200 else f"{name[:40]!r}…"


# %% Making room
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
        remove_tree(Path(f"/proc/{os.getpid()}/fd/{directory}/{name}"))
