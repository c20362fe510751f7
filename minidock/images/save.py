"""Saving: images as one archive, which everybody's tools can read.

The archive is two formats at once. It is an OCI layout: ``oci-layout``,
``index.json`` and blobs by digest. And it has the ``manifest.json`` by which
Docker's own tools have always found configuration and layers, so the paths
there lead to the same blobs. What is shared is in it once.

The traps. Ids and digests must survive, so blobs go in byte for byte, and
so does the manifest, unless it is of Docker's kind, which a tool for OCI
layouts does not read: then one of OCI's kind goes in, with the same
configuration and the same layers. Saved twice, it must be the same archive:
everything has an order, and the time of the image.

**Interface:** :func:`save`, :class:`Chosen`.

**See:** OCI image specification, image-layout.md; moby ``image/tarexport``.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from minidock import steps
from minidock.images.image import Image
from minidock.images.store import Store
from minidock.spec import image as oci
from minidock.spec import reference
from minidock.spec.image import Descriptor, Manifest

Body = dict[str, Any]


# %% What is saved
@dataclass(frozen=True, slots=True)
class Chosen:
    """An image, and those of its names that go along (in full)."""

    image: Image
    names: tuple[str, ...]


def save(chosen: Sequence[Chosen], store: Store, out: BinaryIO) -> None:
    """Write the archive of all ``chosen`` to ``out``, which may be a pipe."""
    archive = Archive(out, max((one.image.created for one in chosen), default=0) // 10**9)
    for algorithm in ("", "/sha256"):
        archive.directory(f"blobs{algorithm}")
    entries: list[Body] = []
    for one in chosen:
        with steps.step("save an image", call="write(2)", chapter="versions", id=one.image.id[:19]):
            entries += _save(one, store, archive)
    archive.file("index.json", {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries})
    archive.file("manifest.json", [_legacy(one) for one in chosen])
    archive.file("oci-layout", {"imageLayoutVersion": "1.0.0"})
    archive.file("repositories", _repositories(chosen))
    archive.close()


# %% One image
def _save(one: Chosen, store: Store, archive: "Archive") -> list[Body]:
    """Its blobs, then its manifest; returns the entries of the index, one for each name."""
    for digest in (*(layer.digest for layer in one.image.manifest.layers), one.image.id):
        with steps.step("save a blob", call="sendfile(2)", chapter="versions", digest=digest[:19]):
            path = store.path(digest)
            with open(path, "rb") as file:
                archive.blob(digest, file, path.stat().st_size)
    data = _manifest(one.image, store)
    descriptor = Descriptor(oci.MANIFEST, oci.digest_of(data), len(data))
    archive.blob(descriptor.digest, io.BytesIO(data), len(data))
    entry = {"mediaType": oci.MANIFEST, "digest": descriptor.digest, "size": len(data)}
    return [{**entry, "annotations": _annotations(name)} for name in one.names] or [entry]


def _manifest(image: Image, store: Store) -> bytes:
    if image.manifest.media_type in ("", oci.MANIFEST):
        return store.read(image.manifest_digest)
    config = Descriptor(oci.CONFIG, image.id, image.manifest.config.size)
    layers = tuple(map(oci.as_oci, image.manifest.layers))
    return oci.encode_manifest(Manifest(2, config, layers, oci.MANIFEST))


def _annotations(name: str) -> dict[str, str]:
    """By the tag for OCI's tools, by the whole name for Docker's."""
    return {oci.CONTAINERD_NAME: name, oci.REF_NAME: reference.parse(name).tag}


# %% For Docker's tools
def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _legacy(one: Chosen) -> Body:
    """An entry of ``manifest.json``."""
    return {
        "Config": _place(one.image.id),
        "RepoTags": [reference.parse(name).familiar for name in one.names] or None,
        "Layers": [_place(layer.digest) for layer in one.image.manifest.layers],
    }


def _repositories(chosen: Sequence[Chosen]) -> dict[str, dict[str, str]]:
    """The oldest form: name and tag, and the topmost layer."""
    found: dict[str, dict[str, str]] = {}
    for one in chosen:
        top = (one.image.chains or (one.image.id,))[-1].partition(":")[2]
        for name in map(reference.parse, one.names):
            found.setdefault(name.familiar_name, {})[name.tag] = top
    return found


# %% The archive
class Archive:
    """A tar in which everything has the same time, and nothing is twice."""

    def __init__(self, out: BinaryIO, moment: int) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._moment = max(moment, 0)
        self._there: set[str] = set()

    def directory(self, name: str) -> None:
        """An empty directory."""
        if name not in self._there:
            self._there.add(name)
            member = self._member(name, 0o755)
            member.type = tarfile.DIRTYPE
            self._tar.addfile(member)

    def blob(self, digest: str, file: IO[bytes], size: int) -> None:
        """A blob, unless it is there already."""
        place = _place(digest)
        if place in self._there:
            return
        self.directory(place.rpartition("/")[0])
        self._there.add(place)
        member = self._member(place, 0o644)
        member.size = size
        self._tar.addfile(member, file)

    def file(self, name: str, value: Any) -> None:
        """A value as JSON."""
        data = json.dumps(value).encode()
        member = self._member(name, 0o644)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def _member(self, name: str, mode: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.mode, member.mtime = mode, self._moment
        return member

    def close(self) -> None:
        """Write the end."""
        self._tar.close()
