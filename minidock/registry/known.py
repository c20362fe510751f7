"""What our own store knows about what registries have.

A name by digest (``host/path@sha256:…``) stands in the index after a pull or
a push: so that repository has that manifest, and all blobs of it.

The trap: it *had* them when we looked; somebody may have deleted them since.
So all this is only good for a guess that the registry confirms.

**Interface:** :func:`published`, :func:`packed`, :func:`repositories_with`,
:func:`repack`.

**See:** moby ``distribution/metadata``, which keeps a file for each guess.
"""

from collections.abc import Sequence

from minidock.images import Images
from minidock.images.image import Image
from minidock.spec.image import Descriptor
from minidock.spec.reference import parse


# %% Guesses
def published(images: Images, image: Image) -> bool:
    """Whether a registry is known to have the image's manifest as it is here."""
    digest = image.manifest_digest
    return any("@" in name and one.manifest_digest == digest for name, one in images.named())


def packed(images: Images, diff_id: str) -> Descriptor | None:
    """A blob of the layer that is compressed by gzip, if one is here."""
    for _, image in images.named():
        for one, blob in zip(image.config.rootfs.diff_ids, image.manifest.layers, strict=True):
            if one == diff_id and blob.media_type.endswith("gzip"):
                return blob
    return None


def repositories_with(images: Images, blob: str, domain: str) -> Sequence[str]:
    """Paths at the registry of ``domain`` where the blob should be."""
    found = set()
    for name, image in images.named():
        where = parse(name)
        there = where.digest and where.domain == domain
        if there and any(layer.digest == blob for layer in image.manifest.layers):
            found.add(where.path)
    return sorted(found)


def repack(images: Images, image: Image, manifest: bytes, media_type: str) -> str:
    """Put another manifest of the same image in the place of its own; returns its digest."""
    digest = images.store.write(manifest)
    with images.store.changing() as entries:
        for entry in entries:
            if entry["digest"] == image.manifest_digest:
                entry |= {"mediaType": media_type, "digest": digest, "size": len(manifest)}
    return digest
