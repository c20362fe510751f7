"""Where a registry keeps things: blobs, each stored once, linked where they belong.

Every repository is an OCI image layout, so that ``ls``, ``jq`` and ``skopeo
inspect oci:…`` can read it. What two repositories share is one file with
two names: a hard link::

    blobs/sha256/<hex>                          the pool: every blob once
    repositories/library+busybox/
        oci-layout  index.json                  manifests and their tags
        blobs/sha256/<hex>                      the same files, by link(2)
    uploads/<name>/<uuid>                       what is still arriving

The kernel counts the links: a file in the pool with one link is in no
repository. It also notes *when* a link came or went (``st_ctime``); that is
the lease that keeps a fresh blob from the garbage collector until its
manifest is there.

The traps. A name may contain ``/``, and ``a/blobs`` is a name: so a
repository is one directory, its name with ``+`` for ``/``, which no name
contains. A file must not appear under its digest before it is whole and on
disk: written elsewhere, flushed, then linked. And a file has room for only
so many links (65,000 with ext4): then the next repository gets a copy.

**Interface:** :class:`Storage`, :class:`Repository`, :func:`check_name`,
:func:`check_digest`.

**See:** link(2), "EMLINK"; inode(7), "ctime"; flock(2); OCI image
specification, image-layout.md; OCI distribution specification, "Pulling
manifests" (the grammar of names).
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from minidock.paths import write_json
from minidock.registry.codes import RegistryError

LAYOUT, INDEX = "oci-layout", "index.json"
LEASE = 24 * 3600.0  # seconds for which what nobody refers to is kept

# %% Names and digests
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
LONGEST_NAME = 255
ALGORITHMS = ("sha256", "sha512")


def check_name(name: str) -> str:
    """``name`` if it is one of a repository, else NAME_INVALID."""
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise RegistryError(
            "NAME_INVALID",
            "invalid repository name: want lower case letters, digits, single separators . _ __ -"
            f" and /, at most {LONGEST_NAME} of them",
            {"name": name[: LONGEST_NAME + 1]},
        )
    return name


def check_tag(tag: str) -> str:
    """``tag`` if it is one, else MANIFEST_INVALID."""
    if not _TAG.fullmatch(tag):
        raise RegistryError(
            "MANIFEST_INVALID",
            "invalid tag: want letters, digits, . _ - and not . or - first, at most 128 of them",
            {"tag": tag[:129]},
        )
    return tag


def check_digest(digest: str) -> str:
    """``digest`` if it is one that we can check, else DIGEST_INVALID.

    It becomes the name of a file, and comes from strangers.
    """
    if not _DIGEST.fullmatch(digest):
        raise RegistryError(
            "DIGEST_INVALID",
            "invalid digest: want sha256: and 64, or sha512: and 128 hexadecimal digits",
            {"digest": digest[:140]},
        )
    return digest


# %% Locks
@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold ``flock`` on the file at ``path``; between threads and between processes."""
    with open(path, "ab") as lock:
        fcntl.flock(lock, how)
        yield


def flush_directory(path: Path) -> None:
    """What was linked or renamed in ``path`` survives a power failure from here on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# %% The whole
class Storage:
    """All repositories below the directory ``root``.

    ``lease``: for so many seconds a blob that no manifest refers to is safe.
    """

    def __init__(self, root: Path, lease: float = LEASE) -> None:
        self.root = root
        self.lease = lease
        self.repositories = root / "repositories"
        self.uploads = root / "uploads"

    def prepare(self) -> None:
        """Make the directories of a new registry."""
        for directory in (self.repositories, self.uploads):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for algorithm in ALGORITHMS:
            (self.root / "blobs" / algorithm).mkdir(parents=True, exist_ok=True)

    def pooled(self, digest: str) -> Path:
        """Where the pool has the blob ``digest``, or would have it."""
        return self.root / "blobs" / check_digest(digest).replace(":", "/")

    def repository(self, name: str) -> "Repository":
        """The repository ``name``, whether it is there or not."""
        return Repository(self, check_name(name))

    def names(self) -> list[str]:
        """All repositories, in the order of ASCII."""
        names = (entry.name.replace("+", "/") for entry in os.scandir(self.repositories))
        return sorted(name for name in names if _NAME.fullmatch(name))


# %% A repository's blobs
@dataclass(frozen=True, slots=True)
class Repository:
    """One repository: its directory is an OCI image layout."""

    storage: Storage
    name: str

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self.storage.repositories / self.name.replace("/", "+")

    @property
    def lock(self) -> Path:
        """Who changes the index, or takes blobs away, holds the lock on this file."""
        return self.directory / ".lock"

    def exists(self) -> bool:
        """Whether anything was ever put into it."""
        return self.directory.is_dir()

    def prepare(self) -> None:
        """Make the directory of a new repository."""
        for algorithm in ALGORITHMS:
            (self.directory / "blobs" / algorithm).mkdir(parents=True, exist_ok=True)
        if not (self.directory / LAYOUT).exists():
            write_json(self.directory / LAYOUT, {"imageLayoutVersion": "1.0.0"})

    def path(self, digest: str) -> Path:
        """Where the blob ``digest`` is, or would be."""
        return self.directory / "blobs" / check_digest(digest).replace(":", "/")

    def size(self, digest: str) -> int | None:
        """How many bytes the blob has, None if it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    # %% Links
    def take(self, whole: Path, digest: str) -> None:
        """Make the file ``whole``, which is on disk and has this digest, a blob of this repository.

        The pool may have it already; between our look and our link somebody
        may throw that away, so: try until one of them holds.
        """
        self.prepare()
        pooled = self.storage.pooled(digest)
        while True:
            with suppress(FileExistsError):
                os.link(whole, pooled)
            if self.link(pooled, digest):
                break
        flush_directory(pooled.parent)
        flush_directory(self.path(digest).parent)

    def link(self, source: Path, digest: str) -> bool:
        """Give the file ``source`` a name here; False if it is not there."""
        self.prepare()
        try:
            os.link(source, self.path(digest))
        except FileExistsError:
            return self.renew(digest) or self.link(source, digest)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            self._copy(source, digest)
        return True

    def _copy(self, source: Path, digest: str) -> None:
        """The file has all the links that it can have: a second file."""
        new = self.path(digest).with_name(f".{secrets.token_hex(8)}")
        try:
            shutil.copyfile(source, new)
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            os.rename(new, self.path(digest))
        finally:
            new.unlink(missing_ok=True)

    # %% Leases
    def renew(self, digest: str) -> bool:
        """Begin the blob's lease anew if half of it is over; False if it is not here.

        Who is told that we have a blob will not send it, and counts on it.
        The collector holds the same lock while it looks and throws away, so
        that it cannot do that between our look and our answer.
        """
        path = self.path(digest)
        try:
            path.stat()  # without a lock, as most who ask get a no
            with locked(self.lock, fcntl.LOCK_SH):
                if time.time() - path.stat().st_ctime > self.storage.lease / 2:
                    os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def remove(self, digest: str) -> bool:
        """Take the blob away from this repository; False if it is not here."""
        try:
            self.path(digest).unlink()
        except FileNotFoundError:
            return False
        return True
