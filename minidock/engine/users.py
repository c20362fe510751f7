"""Users: from the name after ``-u`` to the numbers that the kernel wants.

The names are those of the container's ``/etc/passwd`` and ``/etc/group``,
files that a stranger made: they are read through openat2(2) with the
container's root as the root, so that a link in them cannot name a file of
the host, and only so much of them as a sane file has.

**Interface:** :func:`find`.

**See:** passwd(5), group(5); Dockerfile reference, ``USER``.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from minidock.errors import InvalidParameter
from minidock.linux.syscalls import Resolve, openat2
from minidock.spec.runtime import User

LARGEST_FILE = 4 * 1024 * 1024


# %% Finding a user
@dataclass(frozen=True, slots=True)
class Account:
    """The ids, and the home directory."""

    user: User
    home: str


def find(rootfs: Path, wanted: str, extra_groups: list[str]) -> Account:
    """``wanted`` is ``user``, ``uid``, ``user:group`` or ``uid:gid``; empty is root.

    Without a group it is the one in ``/etc/passwd``, and the groups that list
    the user are added. Raises :class:`InvalidParameter` in Docker's words.
    """
    name, _, group = wanted.partition(":")
    name = name or "0"
    passwd = _table(rootfs, "etc/passwd", 7)
    entry = next((row for row in passwd if name in (row[0], row[2])), None)
    if entry is None and not name.isdigit():
        raise InvalidParameter(f"unable to find user {name}: no matching entries in passwd file")
    uid = _number(entry[2] if entry else name)
    home = entry[5] if entry and entry[5] else "/"
    groups = _table(rootfs, "etc/group", 4)
    if group:
        gid, more = _group(groups, group), set[int]()
    else:
        gid = _number(entry[3]) if entry else 0
        more = {_number(row[2]) for row in groups if entry and entry[0] in row[3].split(",")}
    more |= {_group(groups, extra) for extra in extra_groups}
    return Account(User(uid, gid, additional_gids=tuple(sorted(more | {gid}))), home)


def _group(groups: list[list[str]], name: str) -> int:
    for row in groups:
        if name in (row[0], row[2]):
            return _number(row[2])
    if name.isdigit():
        return _number(name)
    raise InvalidParameter(f"unable to find group {name}: no matching entries in group file")


def _number(text: str) -> int:
    if text.isdigit() and int(text) < 2**31:
        return int(text)
    raise InvalidParameter(f"uids and gids must be in range 0-2147483647, not {text}")


# %% Reading a file of the container
def _table(rootfs: Path, path: str, columns: int) -> list[list[str]]:
    """The rows of a file whose columns are separated by colons; none if there is no such file."""
    directory = os.open(rootfs, os.O_PATH | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK
        fd = openat2(directory, path, flags, resolve=Resolve.IN_ROOT | Resolve.NO_MAGICLINKS)
    except OSError:
        return []
    finally:
        os.close(directory)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        text = file.read(LARGEST_FILE).decode("utf-8", "replace")
    rows = [line.split(":") for line in text.splitlines()]
    return [row for row in rows if len(row) >= columns]
