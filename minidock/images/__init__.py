"""Images: a stack of layers, a configuration, and any number of names.

An image is known by its id, the digest of its configuration, and called by
names, which are only pointers and may move. This module finds images by
whatever somebody calls them, gives and takes names, and keeps the layers
that images need and no others.

The traps. A short id may be a name as well, and names go first. Removing an
image means taking away a name; only the last one takes the image, and a
container made from it forbids even that. And a layer may belong to several
images: it goes when the last of them goes.

**Interface:** :class:`Images`, :class:`Image`.

**See:** OCI image specification; Engine API, "Image"; moby
``daemon/images/image_delete.go`` for the words.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import RLock
from typing import Any, BinaryIO

from minidock import steps
from minidock.errors import Conflict, InvalidParameter, MiniDockError, NotFound
from minidock.images import image as views
from minidock.images import load as loader
from minidock.images.changes import apply
from minidock.images.image import Image
from minidock.images.layers import diff_id_of, keep_layer, temporary
from minidock.images.leases import Leases
from minidock.images.listing import Filters, select
from minidock.images.store import Store, entry_of, reference_of
from minidock.paths import Paths
from minidock.spec import image as oci
from minidock.spec import reference
from minidock.spec.codec import decode
from minidock.spec.image import Descriptor, Execution, ImageConfig, Manifest, RootFS
from minidock.spec.timestamp import now
from minidock.unionfs import Driver

Body = dict[str, Any]


# %% All images
class Images:
    """The images of an engine; safe to use from many threads."""

    def __init__(self, paths: Paths, driver: Driver) -> None:
        self.store = Store(paths.images)
        self.leases = Leases(paths.images / "leases")
        self.driver = driver
        self._lock = RLock()
        self._manifests: dict[str, Image] = {}  # by the manifest's digest, without names
        self._known: dict[str, Image] = {}  # by id: several manifests may be of one image
        self._names: dict[str, str] = {}  # the manifests' digests
        self._stamp = (0, 0)
        self._adders = 0
        self._litter = False
        with suppress(MiniDockError, ValueError):  # what cannot be read says nothing
            self._sweep()

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
        self._names, self._stamp = names, stamp

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

    # %% Showing them
    def listed(
        self,
        filters: Filters,
        *,
        shared: bool = False,
        containers: Callable[[str], int] | None = None,
    ) -> "Sequence[Body]":
        """The API's list of ``ImageSummary``; numbers that take time only where they are asked for."""
        everything = self.list()
        owners: dict[str, int] = {}
        for image in everything:
            for chain in set(image.chains):
                owners[chain] = owners.get(chain, 0) + 1
        return [
            views.summary(
                image,
                _shared(image, owners) if shared else -1,
                containers(image.id) if containers else -1,
            )
            for image in select(everything, filters, self.get)
        ]

    def inspect(self, name: str) -> Body:
        """The API's ``ImageInspect``."""
        image = self.get(name)
        driver = "overlay2" if self.driver.name == "overlay" else self.driver.name
        return views.inspect(image, driver, self._places(image))

    def _places(self, image: Image) -> Mapping[str, str] | None:
        """Where the layers of overlay lie, in Docker's words for it; a whole tree needs none."""
        if self.driver.name != "overlay" or not image.chains:
            return None
        *below, top = [str(self.driver.root / self.driver.directory(one)) for one in image.chains]
        lower = {"LowerDir": ":".join(reversed(below))} if below else {}
        return {**lower, "UpperDir": top}

    def history(self, name: str) -> "Sequence[Body]":
        """The API's ``ImageHistory``."""
        return views.history(self.get(name))

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

    # %% Loading
    def load(
        self, archive: BinaryIO, say: Callable[[Body], None], *, quiet: bool = False
    ) -> "Sequence[str]":
        """Load the images of an archive; returns their names, or ids where they have none."""
        with self.adding():
            images = loader.load(archive, self.store, self.driver, None if quiet else say)
            return [shown for one in images for shown in self._name(one, say)]

    def _name(self, loaded: loader.Loaded, say: Callable[[Body], None]) -> Iterator[str]:
        """Give an image its names; one that was here already keeps the manifest that it has."""
        with self._lock:
            self._refresh()
            known = self._known.get(loaded.id)
            manifest = self._descriptor(known) if known else loaded.manifest
        if not loaded.names:
            self.store.name(manifest, None)
            say({"stream": f"Loaded image ID: {loaded.id}\n"})
            yield loaded.id
        for name in loaded.names:
            shown = reference.parse(name).familiar
            with self._lock:
                self._refresh()
                there = self._manifests.get(self._names.get(name, ""))
                before = there.id if there else loaded.id
                self.store.name(manifest, name)
            if before != loaded.id:
                say(
                    {
                        "stream": f"The image {shown} already exists, renaming the old one with ID"
                        f" {before} to empty string\n"
                    }
                )
            say({"stream": f"Loaded image: {shown}\n"})
            yield shown

    @contextmanager
    def adding(self) -> Iterator[None]:
        """While this lasts nothing is swept: there are blobs and layers that no name leads to yet.

        What an attempt that failed has left is swept when the last one ends.
        """
        with self._lock:
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

    # %% Importing
    def import_rootfs(
        self, archive: BinaryIO, name: str | None, changes: Sequence[str], message: str
    ) -> str:
        """Make an image with one layer from a tar of a root file system; returns its id."""
        wanted = str(reference.parse(name)) if name else None
        run = apply(changes)
        with self.adding():
            return self._import(archive, wanted, run, message)

    def _import(self, archive: BinaryIO, wanted: str | None, run: Execution, message: str) -> str:
        with temporary(self.store, archive) as path:
            diff_id = diff_id_of(path)
            layer = keep_layer(path, diff_id, diff_id, None, self.store, self.driver)
        history = {"created": now(), "comment": message or "Imported from -"}
        config = ImageConfig(
            architecture=oci.architecture(),
            created=now(),
            config=run,
            rootfs=RootFS(diff_ids=(diff_id,)),
            history=(history,),
        )
        data = oci.encode_config(config)
        descriptor = Descriptor(oci.CONFIG, self.store.write(data), len(data))
        text = oci.encode_manifest(Manifest(2, descriptor, (layer,), oci.MANIFEST))
        with self._lock:
            self.store.name(Descriptor(oci.MANIFEST, self.store.write(text), len(text)), wanted)
        return descriptor.digest

    # %% Removing
    def remove(
        self, name: str, *, force: bool = False, used_by: Callable[[str], Sequence[str]]
    ) -> "Sequence[Body]":
        """Take a name away; with the last of them the image. Refused while a container is made from it."""
        with self._lock:
            image = self.get(name)
            by_name = self._by_name(name) is not None
            users = used_by(image.id)
            if by_name and (names := image.losing(name)) != set(image.references):
                return self._untag(sorted(names))
            short = users[0][:12] if users else ""
            if users and not force:
                _refuse(name, image, short, by_name)
            if not by_name and not image.has_one_name and not force:
                raise Conflict(
                    f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is"
                    " referenced in multiple repositories"
                )
            removed = self._untag(image.references)
            if users:
                return removed
            with steps.step(
                "remove the image", call="unlink(2)", chapter="images", id=image.id[:19]
            ):
                return [*removed, *self._delete(image)]

    def _untag(self, names: Sequence[str]) -> "Sequence[Body]":
        self.store.unname(names)
        return [{"Untagged": reference.parse(name).familiar} for name in names]

    def _delete(self, image: Image) -> "Sequence[Body]":
        ours = [key for key, one in self._manifests.items() if one.id == image.id]
        self.store.forget(ours)
        for key in ours:  # one that was cut off when it had its name already
            self.leases.give_back(key)
        swept = self._sweep()
        gone = [chain for chain in reversed(image.chains) if chain in swept]
        return [{"Deleted": image.id}, *({"Deleted": chain} for chain in gone)]

    # %% Sweeping
    def _sweep(self) -> set[str]:
        """Forget the blobs and layers that no image needs; returns the layers' chain ids.

        Some are of an image that was removed, some of a daemon that was
        killed while it loaded. While one is being loaded, they wait for the
        next time.
        """
        self._refresh()
        if self._adders:
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


# %% Words and numbers
def _shared(image: Image, owners: Mapping[str, int]) -> int:
    """The bytes of the layers that other images have, too."""
    pairs = zip(image.chains, image.sizes, strict=True)
    return sum(size for chain, size in pairs if owners[chain] > 1)


def _refuse(name: str, image: Image, user: str, by_name: bool) -> None:
    if by_name:
        raise Conflict(
            f'conflict: unable to remove repository reference "{name}" (must force) - container'
            f" {user} is using its referenced image {image.id[7:19]}"
        )
    raise Conflict(
        f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is being used by"
        f" container {user}"
    )


def _shown(name: str) -> str:
    with suppress(InvalidParameter):
        return reference.parse(name).familiar
    return name
