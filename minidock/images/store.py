"""The store: blobs by digest, and an index of names.

It is an OCI image layout on disk: ``blobs/<algorithm>/<digest>`` holds every
manifest, configuration and layer, ``index.json`` says which manifests have
names, ``oci-layout`` that this is one. Other people's tools read it
(``skopeo inspect oci:…``).

The traps. A blob is named by what is in it, so it is written under another
name, hashed while it is written, and renamed only if the digest is the one
that was promised. And two writers of the index would lose one of their
changes, so there is a lock.

**Interface:** :class:`Store`.

**See:** OCI image specification, image-layout.md, descriptor.md ("Digests").
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from minidock.errors import HostileArchive, NotFound
from minidock.paths import read_json, write_json
from minidock.spec.image import INDEX, REF_NAME, Descriptor

PIECE = 1 << 20

ALGORITHMS = {"sha256": 64, "sha512": 128}  # and how many digits they give


# %% Blobs
Spend = Callable[[int], object]  # is told of bytes before they are written, and may refuse


def _freely(size: int) -> None:
    """No limit."""


class Store:
    """An OCI image layout in the directory ``root``."""

    def __init__(self, root: Path, spend: Spend = _freely) -> None:
        self.root = root
        self.spend = spend
        self._blobs = root / "blobs"
        for algorithm in ALGORITHMS:
            (self._blobs / algorithm).mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (*self._blobs.glob("*/.new-*"), *root.glob(".load-*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()  # a daemon was killed at it
        if not (root / "oci-layout").exists():
            write_json(root / "oci-layout", {"imageLayoutVersion": "1.0.0"})
        if not self._index.exists():
            write_json(self._index, {"schemaVersion": 2, "mediaType": INDEX, "manifests": []})

    @property
    def _index(self) -> Path:
        return self.root / "index.json"

    def path(self, digest: str) -> Path:
        """Where the blob ``digest`` is, or would be. Raises for what is no digest."""
        algorithm, _, value = digest.partition(":")
        digits = ALGORITHMS.get(algorithm)
        if len(value) != digits or not set(value) <= set("0123456789abcdef"):
            raise HostileArchive(f"bad digest: {digest!r}")
        return self._blobs / algorithm / value

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self.path(digest).exists()

    def read(self, digest: str) -> bytes:
        """A small blob, whole. Raises :class:`NotFound`."""
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"no such blob: {digest}") from None

    # %% Writing a blob
    def write(self, data: bytes, expected: str | None = None) -> str:
        """Keep ``data``; returns its digest."""
        with self.writing(expected) as blob:
            blob.write(data)
        return blob.digest

    @contextmanager
    def writing(self, expected: str | None = None) -> Iterator["Blob"]:
        """A blob to write to; it is kept when the block ends well and the digest is the expected one."""
        algorithm = (expected or "sha256").partition(":")[0]
        new = self._blobs / algorithm / f".new-{secrets.token_hex(6)}"
        with open(new, "xb") as file:
            blob = Blob(file, algorithm, self.spend)
            try:
                yield blob
                file.flush()
                if expected is not None and blob.digest != expected:
                    raise HostileArchive(
                        f"digest does not match: {expected} was announced, {blob.digest} came"
                    )
                os.rename(new, self.path(blob.digest))
            finally:
                new.unlink(missing_ok=True)

    def adopt(self, path: Path, digest: str) -> None:
        """Make a file beside the store, whose digest is known, a blob, without copying it."""
        with suppress(FileExistsError):
            os.link(path, self.path(digest))

    def remove(self, digest: str) -> None:
        """Forget a blob."""
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> list[str]:
        """All blobs."""
        return [
            f"{algorithm}:{entry.name}"
            for algorithm in ALGORITHMS
            for entry in os.scandir(self._blobs / algorithm)
            if entry.name[0] != "."
        ]

    # %% Names
    def manifests(self) -> list[dict[str, Any]]:
        """The entries of the index."""
        return list(read_json(self._index)["manifests"])

    def stamp(self) -> tuple[int, int]:
        """Changes whenever the index does."""
        status = os.stat(self._index)
        return status.st_mtime_ns, status.st_ino

    @contextmanager
    def changing(self) -> Iterator[list[dict[str, Any]]]:
        """The entries of the index, to be changed in place, alone with them."""
        with open(self.root / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            index = read_json(self._index)
            yield index["manifests"]
            write_json(self._index, index)

    def name(self, descriptor: Descriptor, *references: str | None) -> None:
        """Give a manifest the names ``references``; without one (None) just keep it.

        Another that had the name loses it, but stays: somebody may use it by its id.
        """
        entry: dict[str, Any] = {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
        }
        new = [{**entry, "annotations": {REF_NAME: one}} if one else entry for one in references]
        with self.changing() as manifests:
            others = [
                _nameless(one) if reference_of(one) in references else one for one in manifests
            ]
            manifests[:] = _tidy([*others, *new])

    def unname(self, references: Collection[str]) -> None:
        """Take names away; what has no other stays without."""
        with self.changing() as manifests:
            manifests[:] = _tidy(
                [_nameless(one) if reference_of(one) in references else one for one in manifests]
            )

    def forget(self, digests: Collection[str]) -> None:
        """Take manifests out of the index, whatever their names."""
        with self.changing() as manifests:
            manifests[:] = [one for one in manifests if one["digest"] not in digests]


# %% Entries of the index
def reference_of(entry: dict[str, Any]) -> str | None:
    """The name that an entry of an index gives."""
    with suppress(KeyError):
        return str(entry["annotations"][REF_NAME])
    return None


def _nameless(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "annotations"}


def _tidy(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each once; one without a name only where its manifest has none."""
    named = {one["digest"] for one in entries if reference_of(one)}
    return list(
        {
            (one["digest"], reference_of(one)): one
            for one in entries
            if reference_of(one) or one["digest"] not in named
        }.values()
    )


# %% A blob being written
class Writer(Protocol):
    """What a blob is written to."""

    def write(self, data: bytes, /) -> int:
        """Append."""


class Blob:
    """A file that is hashed while it is written."""

    def __init__(self, file: Writer, algorithm: str = "sha256", spend: Spend = _freely) -> None:
        self._file = file
        self._spend = spend
        self._hash = hashlib.new(algorithm)
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append ``data``."""
        self._spend(len(data))
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        """Of all that was written."""
        return f"{self._hash.name}:{self._hash.hexdigest()}"


def entry_of(data: bytes) -> Any:
    """A blob that must be JSON. Raises :class:`HostileArchive`."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise HostileArchive(f"not JSON: {error}") from None
