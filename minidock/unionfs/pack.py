"""From tree to tar: a container's own layer as an archive.

What a layer takes away has no file; what says so lies in the tree in the
driver's own way (overlayfs: a device 0:0), and becomes a whiteout here. So
the driver says for each thing as which entries it goes in.

The traps: names come in the order of the alphabet, so that equal trees give
equal digests; a second name of the same file is a hard link, or it would
come back as two files; users' and groups' names are left out, because they
are those of this host.

**Interface:** :func:`pack`, :func:`walk`, :func:`whiteout`.

**See:** tar(5); OCI image specification, layer.md, "Change Types".
"""

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from minidock.unionfs.archive import WHITEOUT, XATTR

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
