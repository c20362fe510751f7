"""What an entry says about a thing, besides its name: owner, mode, times, attributes.

The traps: chown(2) takes setuid away, so the mode comes after the owner, and
the time after everything. -1 as an owner means "leave it" to the kernel. Times
in an archive may be any number, also none at all (``nan``), and have more
digits than a floating point number holds. And some attributes are the
drivers' own notes, which no stranger may write for them.

**Interface:** :func:`check`, :func:`dress`, :func:`dress_open`, :func:`make_node`, :data:`XATTR`,
:data:`DRIVERS_OWN`.

**See:** tar(5), chown(2), utimensat(2), xattr(7).
"""

import os
import re
import stat
import tarfile
from contextlib import suppress

from minidock.errors import HostileArchive

XATTR = "SCHILY.xattr."

# overlayfs' notes, and those of fuse-overlayfs.
DRIVERS_OWN = ("trusted.", "user.overlay.", "user.fuseoverlayfs.", "user.containers.override_stat")

DEVICES = {(1, 3), (1, 7), (1, 5), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}  # null full zero …

LARGEST_ID, LATEST = (1 << 32) - 2, (1 << 63) - 1


# %% What no entry may say
def check(member: tarfile.TarInfo) -> None:
    """Raise :class:`HostileArchive` for a number that is none, or an attribute that is a driver's."""
    for what, number in (("user", member.uid), ("group", member.gid)):
        if not 0 <= number <= LARGEST_ID:
            raise HostileArchive(f"entry {member.name!r} belongs to the {what} {number}")
    if member.size < 0:
        raise HostileArchive(f"entry {member.name!r} has {member.size} bytes")
    for key in member.pax_headers:
        name = key.removeprefix(XATTR)
        if key.startswith(XATTR) and name.startswith(DRIVERS_OWN):
            raise HostileArchive(f"entry {member.name!r} has the attribute {name}")


# %% Owner, mode, time
def dress(member: tarfile.TarInfo, directory: int, name: str) -> None:
    """By name, for what cannot be opened."""
    os.chown(name, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
    if not member.issym():
        os.chmod(name, member.mode & 0o7777, dir_fd=directory)
    os.utime(name, ns=times(member), dir_fd=directory, follow_symlinks=False)


def dress_open(member: tarfile.TarInfo, fd: int) -> None:
    """An open file or directory."""
    # Always the owner: in a directory with setgid (a copied parent's) the group is not ours.
    os.fchown(fd, member.uid, member.gid)
    os.fchmod(fd, member.mode & 0o7777)
    for key, value in member.pax_headers.items():
        if key.startswith(XATTR):
            with suppress(OSError):  # the file system here may not have that kind
                data = value.encode("utf-8", "surrogateescape")
                os.setxattr(fd, key.removeprefix(XATTR), data)
    os.utime(fd, ns=times(member))


def times(member: tarfile.TarInfo) -> tuple[int, int]:
    """To the nanosecond; what is before 1970 or after 2262 becomes 1970, as Docker has it."""
    moment = _nanoseconds(member.pax_headers.get("mtime", "")) or 0
    if not moment and member.mtime == member.mtime // 1:  # neither a fraction nor nan
        moment = int(member.mtime) * 10**9
    return (moment, moment) if 0 <= moment <= LATEST else (0, 0)


def _nanoseconds(text: str) -> int | None:
    """A decimal number of seconds, which a floating point number would round."""
    found = re.fullmatch(r"(\d{1,12})(?:\.(\d*))?", text, re.ASCII)
    if found is None:
        return None
    return int(found[1]) * 10**9 + int((found[2] or "").ljust(9, "0")[:9])


# %% Devices and fifos
def make_node(member: tarfile.TarInfo, directory: int, name: str) -> None:
    """Only the devices that every container has."""
    if member.isfifo():
        os.mkfifo(name, 0o600, dir_fd=directory)
        return
    numbers = (member.devmajor, member.devminor)
    if member.isblk() or numbers not in DEVICES:
        raise HostileArchive(f"entry {member.name!r} is the device {numbers[0]}:{numbers[1]}")
    os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(*numbers), dir_fd=directory)
