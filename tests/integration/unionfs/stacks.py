"""Layers for the tests: archives made of entries, stacks of layers, a container on top.

**Interface:** :class:`Stack`, :func:`tar`, :func:`describe_tree`, :func:`open_driver`, :data:`DRIVERS`.
"""

import hashlib
import io
import os
import secrets
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minidock.unionfs import Driver
from minidock.unionfs.choice import choose

DRIVERS = ("overlay", "vfs", "btrfs", "fuse-overlayfs", "devicemapper")
SMALL_POOL = ("dm.loopdatasize=1g", "dm.loopmetadatasize=16m", "dm.basesize=256m")

FILE, DIR, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CHAR, BLOCK, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE
Entry = tuple[str, bytes, dict[str, Any]]


# %% Archives and stacks
def tar(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, more in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755
            for key, value in more.items():
                if key != "data":
                    setattr(member, key, value)
            member.size = len(more.get("data", b""))
            archive.addfile(member, io.BytesIO(more.get("data", b"")))
    return out.getvalue()


def new_chain() -> str:
    return f"sha256:{secrets.token_hex(32)}"


class Stack:
    """Layers put on top of each other, and a container on top of them all."""

    def __init__(self, driver: Driver, container: Path) -> None:
        self.driver, self.container = driver, container
        self.chains: list[str] = []
        container.mkdir()

    def add(self, *entries: Entry, raw: bytes | None = None) -> str:
        chain = new_chain()
        parent = self.chains[-1] if self.chains else None
        self.driver.create_layer(chain, parent, io.BytesIO(tar(*entries) if raw is None else raw))
        self.chains.append(chain)
        return chain

    def mount(self) -> Path:
        return self.driver.mount(self.chains, self.container)

    def changes(self) -> set[tuple[str, str]]:
        found = self.driver.changes(self.chains, self.container)
        return {(change.kind, change.path) for change in found}

    def pack(self) -> bytes:
        out = io.BytesIO()
        self.driver.pack(self.chains, self.container, out)
        return out.getvalue()


def attributes(name: str) -> dict[str, Any]:
    return {"pax_headers": {f"SCHILY.xattr.{name}": "y"}}


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


# %% Drivers
def open_driver(name: str, root: Path, options: Sequence[str] = ()) -> Driver:
    return choose(name, root, [*options, *(SMALL_POOL if name == "devicemapper" else ())])


# %% What a tree is like
def describe_tree(root: Path, times: bool = True) -> dict[str, tuple[Any, ...]]:
    """Everything below ``root`` that a layer keeps; names of one file by the first of them."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    for directory, names, files in os.walk(root):
        names.sort()
        for one in sorted(names + files):
            path = Path(directory) / one
            try:
                status = path.lstat()
            except FileNotFoundError:  # overlayfs lists a whiteout where nothing is below
                continue
            name = str(path.relative_to(root))
            line: tuple[Any, ...] = (oct(status.st_mode), status.st_uid, status.st_gid)
            if stat.S_ISLNK(status.st_mode):
                line += (os.readlink(path),)
            elif stat.S_ISREG(status.st_mode):
                line += (hashlib.sha256(path.read_bytes()).hexdigest()[:12],)
                line += (first.setdefault(status.st_ino, name),)
            elif not stat.S_ISDIR(status.st_mode):
                line += (status.st_rdev,)
            if times and not stat.S_ISDIR(status.st_mode):
                line += (status.st_mtime_ns // 10**9,)
            line += tuple(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in sorted(os.listxattr(path, follow_symlinks=False))
                if not key.startswith(("trusted.", "user.fuseoverlayfs", "user.overlay"))
            )
            found[name] = line
    return found
