"""Garbage collection: throw away what nobody needs, while others push.

Nothing in a registry is overwritten; what a deleted manifest named stays.
The collector marks, repository by repository, all that a manifest names,
and sweeps what is left; then it takes from the pool what is in no
repository any more, which the number of links tells.

The trap is the push that is under way: its blobs are here, its manifest is
not yet, so they look like rubbish. Docker's registry has to be stopped, or
set to read only, while it collects. Here two things make it safe. Whatever
became a blob of a repository, or was said to be here, less than a *lease*
ago (a day) is kept; the kernel has noted when. And a manifest is let in, and
a blob said to be here, under the lock that we hold while we mark and sweep.

**Interface:** :func:`collect`, :class:`Collected`.

**See:** inode(7), "st_ctime" and "st_nlink"; J. McCarthy, *Recursive
functions of symbolic expressions* (1960), where mark and sweep comes from.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minidock.errors import Conflict
from minidock.registry.codes import RegistryError
from minidock.registry.storage import Repository, Storage
from minidock.registry.storage_manifests import Index, Manifest, Manifests, inspect
from minidock.registry.storage_uploads import Uploads


# %% Collecting
@dataclass(slots=True)
class Collected:
    """How many were thrown away; ``bytes`` is the room that they took."""

    manifests: int = 0
    blobs: int = 0
    bytes: int = 0
    uploads: int = 0


def collect(
    storage: Storage, uploads: Uploads, *, untagged: bool = False, dry_run: bool = False
) -> Collected:
    """Collect everywhere. ``untagged``: also manifests that nothing leads to from a tag.

    ``dry_run`` only counts.
    """
    collected, manifests, swept = Collected(), Manifests(), Counter[int]()
    for name in storage.names():
        repository = storage.repository(name)
        with manifests.changing(repository) as index:
            needless = _needless(repository, index) if untagged else set()
            marked = _marked(repository, index.digests.keys() - needless)
            swept += _sweep(repository, marked, dry_run)
            collected.manifests += len(needless)
            if not dry_run:
                for digest in needless:
                    del index.digests[digest]
    _drain(storage, swept, collected, dry_run)
    if not dry_run:
        collected.uploads = uploads.expire(storage.lease)
    return collected


def _files(directory: Path) -> Iterator[Path]:
    """The blobs of the pool, or of a repository, and copies that were never finished."""
    for algorithm in (directory / "blobs").iterdir():
        yield from algorithm.iterdir()


def _old(repository: Repository, digest: str) -> bool:
    """Whether its lease is over."""
    age = time.time() - repository.path(digest).stat().st_ctime
    return age > repository.storage.lease


# %% Mark and sweep
def _marked(repository: Repository, digests: Iterable[str]) -> set[str]:
    """All that these manifests name. One that cannot be read stops us: nothing is swept."""
    marked = set()
    for digest in digests:
        manifest = _manifest(repository, digest)
        marked |= {digest, *manifest.blobs, *manifest.elsewhere}
    return marked


def _manifest(repository: Repository, digest: str) -> Manifest:
    try:
        return inspect(repository.path(digest).read_bytes())
    except (RegistryError, OSError) as error:
        raise Conflict(
            f"{repository.name}: the manifest {digest} cannot be read, so what it needs is not"
            f" known and nothing is thrown away: {error}"
        ) from None


def _sweep(repository: Repository, marked: set[str], dry_run: bool) -> Counter[int]:
    """Take away what is not marked and old; how many links of which inode that was."""
    swept, now = Counter[int](), time.time()
    for path in _files(repository.directory):
        status = path.stat()
        if f"{path.parent.name}:{path.name}" in marked:
            continue
        if now - status.st_ctime > repository.storage.lease:
            swept[status.st_ino] += 1
            if not dry_run:
                path.unlink()
    return swept


def _drain(storage: Storage, swept: Counter[int], collected: Collected, dry_run: bool) -> None:
    """From the pool, what is in no repository. It needs no lock: who wants it tries again."""
    for path in _files(storage.root):
        status = path.stat()
        links = status.st_nlink - (swept[status.st_ino] if dry_run else 0)
        if links == 1:
            collected.blobs += 1
            collected.bytes += status.st_size
            if not dry_run:
                path.unlink()


# %% Manifests without a tag
def _needless(repository: Repository, index: Index) -> set[str]:
    """Manifests that no tag leads to.

    What leads: a tag to its manifest, an index to its children, and a
    subject to its referrers, as a signature is to live as long as what it signs.
    """
    read = {digest: _manifest(repository, digest) for digest in index.digests}
    kept = {entry.digest for entry in index.tags.values()}
    kept |= {digest for digest in read if not _old(repository, digest)}
    todo = list(kept)
    while todo:
        digest = todo.pop()
        leads = {child for child in read[digest].children if child in read}
        leads |= {other for other, manifest in read.items() if manifest.subject == digest}
        todo += leads - kept
        kept |= leads
    return read.keys() - kept
