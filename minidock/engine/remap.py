"""Root in there, nobody out here: user namespaces for containers.

With ``--userns-remap`` the daemon gives each container a user namespace in
which its root is an ordinary user of the host, from a range in
``/etc/subuid`` that belongs to nobody else. What leaves such a container by
whatever hole can do what that user can: nothing.

The files of an image belong to root all the same, and are shared by
containers; so the layers are mounted *idmapped*, which shows what is root's
on the disk as the container's root's, and nothing is copied or chowned.

The traps. A namespace is owned by the user namespace in which it was made,
and only root of the *owner* may configure it: the network namespace must be
made in there, too, or ``--cap-add NET_ADMIN`` would mean nothing. The daemon
has threads and cannot enter a user namespace itself, so unshare(1) does it.
And what is shared with the host is the host's: ``--privileged``, ``--pid host``
and ``--network host`` need ``--userns host``.

**Interface:** :class:`Remap`, :func:`read`, :func:`of`, :func:`check`,
:func:`prepare`, :func:`give`, :func:`release`.

**See:** user_namespaces(7), subuid(5), unshare(1); Docker's documentation,
"Isolate containers with a user namespace".
"""

import grp
import os
import pwd
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minidock import namespaces, steps
from minidock.engine.container import Container
from minidock.errors import InvalidParameter, Unavailable
from minidock.linux.syscalls import Mount, Umount, mount, umount
from minidock.spec.codec import decode, encode
from minidock.spec.runtime import IDMapping

SUBUID, SUBGID = "/etc/subuid", "/etc/subgid"


# %% Maps
@dataclass(frozen=True, slots=True)
class Remap:
    """Which ids of the host a container's ids are."""

    uids: tuple[IDMapping, ...]
    gids: tuple[IDMapping, ...]

    @property
    def root(self) -> tuple[int, int]:
        """User and group of the container's root, on the host."""
        return self.uids[0].host_id, self.gids[0].host_id

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """The host's ids as they are in there; those that it has not, stay."""
        return _translate(uid, self.uids, "host_id", "container_id"), _translate(
            gid, self.gids, "host_id", "container_id"
        )

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """The container's ids as they are on the host."""
        return _translate(uid, self.uids, "container_id", "host_id"), _translate(
            gid, self.gids, "container_id", "host_id"
        )


def _translate(number: int, maps: tuple[IDMapping, ...], source: str, target: str) -> int:
    for one in maps:
        first: int = getattr(one, source)
        if first <= number < first + one.size:
            return int(number - first + getattr(one, target))
    return number


def read(option: str) -> Remap:
    """``USER``, ``USER:GROUP``, numbers, or ``default`` (the user ``dockremap``), as Docker has it."""
    user, _, group = option.partition(":")
    if user == "default":
        user = "dockremap"
    name, number = _account(user)
    return Remap(
        _ranges(SUBUID, "subuid", "user", (name, number)),
        _ranges(SUBGID, "subgid", "group", _group(group) if group else (name, number)),
    )


def _account(user: str) -> tuple[str, str]:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise InvalidParameter(
            f"--userns-remap: no user {user!r} on this host (useradd --system {user}, and a range in"
            " /etc/subuid and /etc/subgid)"
        ) from None
    return entry.pw_name, str(entry.pw_uid)


def _group(group: str) -> tuple[str, str]:
    try:
        entry = grp.getgrgid(int(group)) if group.isdigit() else grp.getgrnam(group)
    except KeyError:
        raise InvalidParameter(f"--userns-remap: no group {group!r} on this host") from None
    return entry.gr_name, str(entry.gr_gid)


# %% /etc/subuid and /etc/subgid
def _ranges(file: str, kind: str, what: str, owner: tuple[str, str]) -> tuple[IDMapping, ...]:
    """The owner's ranges, one after the other: the container's ids have no gaps."""
    found: list[IDMapping] = []
    with suppress(FileNotFoundError):
        for line in Path(file).read_text().splitlines():
            name, _, rest = line.partition(":")
            first, _, size = rest.partition(":")
            if name in owner and first.isdigit() and size.isdigit() and int(size):
                inside = sum(one.size for one in found)
                found.append(IDMapping(int(size), inside, int(first)))
    if not found:
        raise InvalidParameter(
            f"Can't create ID mappings: no {kind} ranges found for {what} {owner[0]!r}"
            f" (a line like {owner[0]}:100000:65536 in {file})"
        )
    return tuple(found)


# %% Which containers
def of(container: Container) -> Remap | None:
    """The maps that the container was created with; none for one whose root is the host's."""
    written = container.record.get("Remap")
    return decode(Remap, written) if written else None


def check(host: dict[str, Any], remap: Remap | None) -> dict[str, Any]:
    """What to write into the record. Raises :class:`InvalidParameter` in Docker's words."""
    if remap is None or host["UsernsMode"] == "host":
        return {}
    if host["Privileged"]:
        raise InvalidParameter(
            "privileged mode is incompatible with user namespaces. You must run the container in the"
            " host namespace when running privileged mode"
        )
    for key, what in (("NetworkMode", "network"), ("PidMode", "PID"), ("UTSMode", "UTS")):
        if host[key] == "host":
            raise InvalidParameter(
                f"cannot share the host's {what} namespace when user namespaces are enabled"
            )
    return {"Remap": encode(remap)}


# %% The namespaces of one container
@contextmanager
def prepare(container: Container, path: Path) -> Iterator[str]:
    """Make its user namespace, kept alive at ``path``; yields a network namespace that it owns, or "".

    The network namespace is there during the block only: whoever wants it
    binds it.
    """
    remap = of(container)
    if remap is None:
        yield ""
        return
    with steps.step(
        "make the user namespace", call="unshare(1) --user --net", chapter="namespaces"
    ) as step:
        keeper = subprocess.Popen(
            ["unshare", "--user", "--net", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        step.undo(_end, keeper)
        step.undo(release, path)
        _wait_for(keeper)
        namespaces.write_id_maps(keeper.pid, remap.uids, remap.gids)
        path.parent.mkdir(mode=0o711, exist_ok=True)
        path.touch()
        mount(f"/proc/{keeper.pid}/ns/user", path, flags=Mount.BIND)
        _open_directory(container.directory, remap)
    try:
        yield f"/proc/{keeper.pid}/ns/net"
    finally:
        _end(keeper)


def _wait_for(keeper: "subprocess.Popen[bytes]") -> None:
    """Until it has both: namespaces are asked for in one call, but seen to change one by one."""
    ours = [os.readlink(f"/proc/self/ns/{name}") for name in ("user", "net")]
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and keeper.poll() is None:
        theirs = [os.readlink(f"/proc/{keeper.pid}/ns/{name}") for name in ("user", "net")]
        if not set(ours) & set(theirs):
            return
        time.sleep(0.0005)
    raise Unavailable("unshare(1) made no user namespace (see /proc/sys/user/max_user_namespaces)")


def _end(keeper: "subprocess.Popen[bytes]") -> None:
    if keeper.stdin is not None:
        keeper.stdin.close()
    keeper.kill()
    keeper.wait()


def _open_directory(directory: Path, remap: Remap) -> None:
    """Its root must be able to walk through its directory, and nobody else: an access list, acl(5).

    Not by the directory's group: an owner that is not in the maps could not be shown in there.
    """
    entries = ((1, 7, -1), (2, 1, remap.root[0]), (4, 0, -1), (0x10, 1, -1), (0x20, 0, -1))
    packed = b"".join(struct.pack("<HHI", tag, may, who & 2**32 - 1) for tag, may, who in entries)
    os.setxattr(directory, "system.posix_acl_access", struct.pack("<I", 2) + packed)


def give(container: Container) -> None:
    """Its root owns the files that the engine has written for it."""
    remap = of(container)
    if remap is not None:
        for name in ("resolv.conf", "hosts", "hostname"):
            os.chown(container.directory / name, *remap.root)


def release(path: Path) -> None:
    """Let the user namespace go; it may have gone already."""
    with suppress(OSError):
        umount(path, Umount.DETACH)
    path.unlink(missing_ok=True)
