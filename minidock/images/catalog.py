"""The catalog: which images there are, what they are called, what they need.

An image is known by its id, the digest of its configuration, and called by
names, which are only pointers and may move. This module finds images by
whatever somebody calls them, gives and takes names, and keeps the blobs and
layers that images need and no others.

The traps. A short id may be a name as well, and names go first. A layer may
belong to several images: it goes when the last of them goes. And while an
image is being added there are blobs that no name leads to yet.

**Interface:** :class:`Catalog`.

**See:** OCI image specification; moby ``image/store.go``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import RLock

from minidock.errors import InvalidParameter, MiniDockError, NotFound
from minidock.images.image import Image
from minidock.images.layers import keep_layer
from minidock.images.leases import Leases
from minidock.images.lineage import Lineage
from minidock.images.quota import Quota
from minidock.images.store import Store, entry_of, reference_of
from minidock.paths import Paths
from minidock.spec import image as oci
from minidock.spec import reference
from minidock.spec.codec import decode
from minidock.spec.image import Descriptor, ImageConfig, Manifest
from minidock.unionfs import Driver


# %% All that there is
class Catalog:
    """What the store and the storage driver hold; safe to use from many threads."""

    def __init__(self, paths: Paths, driver: Driver, quota: int | None = None) -> None:
        self.quota = Quota(quota, self._used)
        self.store = Store(paths.images, self.quota.spend)
        self.leases = Leases(paths.images / "leases")
        self.driver = driver
        self._lock = RLock()
        self._manifests: dict[str, Image] = {}  # by the manifest's digest, without names
        self._known: dict[str, Image] = {}  # by id: several manifests may be of one image
        self._names: dict[str, str] = {}  # the manifests' digests
        self._stamp = (0, 0)
        self._lineage: Lineage | None = None
        self._adders = 0
        self._litter = False
        with suppress(MiniDockError, ValueError):  # what cannot be read says nothing
            self._sweep()

    @property
    def lineage(self) -> Lineage:
        """Which of the images came of which."""
        with self._lock:
            self._refresh()
            if self._lineage is None:
                self._lineage = Lineage(self._known.values())
            return self._lineage

    def list(self) -> "Sequence[Image]":
        """All, the newest first."""
        with self._lock:
            self._refresh()
            return sorted(self._known.values(), key=lambda one: one.created, reverse=True)

    def _refresh(self) -> None:
        """Read the index again, if it has changed."""
        stamp = self.store.stamp()
        if stamp == self._stamp:
            return
        manifests: dict[str, Image] = {}
        known: dict[str, Image] = {}
        names: dict[str, str] = {}
        for entry in self.store.manifests():
            digest, name = str(entry["digest"]), reference_of(entry)
            image = manifests[digest] = self._manifests.get(digest) or self._read(digest)
            image = known.get(image.id, image)
            known[image.id] = replace(image, references=(*image.references, *filter(None, [name])))
            if name:
                names[name] = digest
        self._manifests, self._known = manifests, known
        self._names, self._stamp, self._lineage = names, stamp, None

    def _read(self, digest: str) -> Image:
        manifest = decode(Manifest, entry_of(self.store.read(digest)))
        document = entry_of(self.store.read(manifest.config.digest))
        config = decode(ImageConfig, document)
        chains = tuple(oci.chain_ids(config.rootfs.diff_ids))
        sizes = tuple(self._size(chain) for chain in chains)
        return Image(manifest.config.digest, (), digest, manifest, config, document, chains, sizes)

    def _size(self, chain: str) -> int:
        with suppress(NotFound):
            return self.driver.layer_size(chain)
        return 0

    # %% Finding one
    def get(self, name: str) -> Image:
        """By name, by id, or by the beginning of an id. Raises :class:`NotFound` in Docker's words."""
        found = self.find(name)
        if found is None:
            raise NotFound(f"No such image: {_shown(name)}")
        return found

    def find(self, name: str) -> Image | None:
        """The same, or None."""
        with self._lock:
            self._refresh()
            return self._by_name(name) or self._by_id(name)

    def _by_name(self, name: str) -> Image | None:
        """With the manifest that this name leads to. A tag beside a digest says nothing more."""
        try:
            wanted = reference.parse(name)
        except InvalidParameter:
            return None
        full = f"{wanted.name}@{wanted.digest}" if wanted.digest else str(wanted)
        packed = self._manifests.get(self._names.get(full, wanted.digest))
        if packed is None:
            return None
        image = replace(packed, references=self._known[packed.id].references)
        # By digest also where no registry has told it, if the repository is right.
        known = full in image.references or wanted.name in image.repositories
        return image if known else None

    def named(self) -> "Sequence[tuple[str, Image]]":
        """Every name, and the image with the manifest that it leads to; nameless ones are left out."""
        with self._lock:
            self._refresh()
            return [(name, self._manifests[digest]) for name, digest in self._names.items()]

    def whole(self, image: Image) -> bool:
        """Whether all of it is here: configuration, blobs and layers."""
        blobs = [image.id, *(layer.digest for layer in image.manifest.layers)]
        return all(map(self.store.has, blobs)) and all(map(self.driver.has_layer, image.chains))

    def _by_id(self, name: str) -> Image | None:
        digits = name.removeprefix("sha256:")
        if not digits or not set(digits) <= set("0123456789abcdef"):
            return None
        matches = [one for key, one in self._known.items() if key[7:].startswith(digits)]
        if len(matches) > 1:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {name}")
        return matches[0] if matches else None

    def ensure_layers(self, image: Image) -> "Sequence[str]":
        """The chain ids, lowest first; layers that the driver lacks are extracted from their blobs."""
        for number, chain in enumerate(image.chains):
            if not self.driver.has_layer(chain):
                parent = image.chains[number - 1] if number else None
                path = self.store.path(image.manifest.layers[number].digest)
                diff_id = image.config.rootfs.diff_ids[number]
                keep_layer(path, diff_id, chain, parent, self.store, self.driver)
        return image.chains

    # %% Names
    def tag(self, source: str, name: str) -> None:
        """Call the image ``source`` also ``name``."""
        image = self.get(source)
        wanted = reference.parse(name)
        if wanted.digest:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        with self._lock:
            self.store.name(self._descriptor(image), str(wanted))

    def _descriptor(self, image: Image) -> Descriptor:
        size = self.store.path(image.manifest_digest).stat().st_size
        return Descriptor(image.manifest.media_type or oci.MANIFEST, image.manifest_digest, size)

    # %% While something is added
    @contextmanager
    def adding(self) -> Iterator[None]:
        """While this lasts nothing is swept: there are blobs and layers that no name leads to yet.

        What an attempt that failed has left is swept when the last one ends.
        """
        with self._lock:
            if not self._adders:
                self.quota.look()
            self._adders += 1
        try:
            yield
        except BaseException:
            self._litter = True
            raise
        finally:
            with self._lock:
                self._adders -= 1
                if self._litter and not self._adders:
                    self._litter = False
                    self._sweep()

    # %% Sweeping
    def _sweep(self) -> set[str]:
        """Forget the blobs and layers that no image needs; returns the layers' chain ids.

        Some are of an image that was removed, some of a daemon that was
        killed while it loaded. While one is being loaded, they wait for its end.
        """
        self._refresh()
        if self._adders:
            self._litter = True
            return set()
        blobs, chains = self._needed()
        for digest in set(self.store.digests()) - blobs:
            self.store.remove(digest)
        unneeded = set(self.driver.layers()) - chains
        for chain in unneeded:
            self.driver.remove_layer(chain)
        self.leases.sweep()
        return unneeded

    def _needed(self) -> tuple[set[str], set[str]]:
        """The blobs and the layers of all images there are, and of those on their way."""
        blobs, chains = self.leases.held()
        for image in self._manifests.values():
            blobs |= {image.manifest_digest, image.id}
            blobs |= {layer.digest for layer in image.manifest.layers}
            chains |= set(image.chains)
        return blobs, chains

    def _used(self) -> int:
        """The bytes of all blobs, those half here included, and of all extracted layers."""
        blobs = (self.store.path(digest) for digest in self.store.digests())
        files = [*blobs, *self.leases.root.iterdir()]
        return sum(path.stat().st_size for path in files) + self._trees()

    def _trees(self) -> int:
        return sum(self._size(chain) for chain in self.driver.layers())


# %% Words
def _shown(name: str) -> str:
    with suppress(InvalidParameter):
        return reference.parse(name).familiar
    return name
