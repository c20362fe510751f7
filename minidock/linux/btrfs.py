"""Subvolumes of btrfs: directories that can be copied in no time.

A *subvolume* is a tree of its own within the file system. A *snapshot* is
another subvolume that begins with the same blocks; whoever writes to one of
them gets a new block, and the other keeps the old. Each is one ioctl(2) on
the directory in which the new one is to appear.

The traps: a subvolume is removed by an ioctl, too (an empty one also by
rmdir(2), since Linux 4.18), and refused while there is another subvolume
within; and whoever may make a directory may make a subvolume, also within a
container.

**Interface:** :func:`create_subvolume`, :func:`snapshot`,
:func:`destroy_subvolume`, :func:`is_subvolume`.

**See:** btrfs-subvolume(8); ``include/uapi/linux/btrfs.h``.
"""

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# _IOW(0x94, number, struct btrfs_ioctl_vol_args): a descriptor and a name, 4096 bytes.
SNAP_CREATE, SUBVOL_CREATE, SNAP_DESTROY = 0x50009401, 0x5000940E, 0x5000940F

FIRST_INODE = 256  # of every subvolume's top directory


# %% The calls
def create_subvolume(path: Path) -> None:
    """An empty subvolume."""
    _call(SUBVOL_CREATE, "BTRFS_IOC_SUBVOL_CREATE", path)


def snapshot(source: Path, path: Path) -> None:
    """A subvolume that begins as ``source`` is now."""
    with _opened(source) as fd:
        _call(SNAP_CREATE, "BTRFS_IOC_SNAP_CREATE", path, fd)


def destroy_subvolume(path: Path) -> None:
    """Remove it, with all that is in it; the kernel frees its blocks later."""
    _call(SNAP_DESTROY, "BTRFS_IOC_SNAP_DESTROY", path)


def is_subvolume(path: Path) -> bool:
    """Whether it is the top of one. (On a file system that is not btrfs: meaningless.)"""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_ino == FIRST_INODE


# %% One ioctl
def _call(number: int, name: str, path: Path, fd: int = 0) -> None:
    with _opened(path.parent) as directory:
        try:
            # Python passes on more than 1024 bytes only if they may be changed.
            words = bytearray(struct.pack("q4088s", fd, os.fsencode(path.name)))
            fcntl.ioctl(directory, number, words)
        except OSError as error:
            raise OSError(
                error.errno, f"ioctl(2) {name} {path}: {os.strerror(error.errno or 0)}"
            ) from None


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
