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

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any, BinaryIO

from minidock import steps
from minidock.errors import Conflict, InvalidParameter, MiniDockError, NotFound
from minidock.images import load as loader
from minidock.images.leases import Leases
from minidock.images.store import Store, entry_of, reference_of
from minidock.paths import Paths
from minidock.spec import image as oci
from minidock.spec import reference
from minidock.spec.codec import decode, encode
from minidock.spec.image import Descriptor, Execution, ImageConfig, Manifest, RootFS
from minidock.spec.timestamp import ZERO, now, parse_time
from minidock.unionfs import Driver

Body = dict[str, Any]


# %% An image
@dataclass(frozen=True, slots=True)
class Image:
    """``id`` is the digest of the configuration; ``references`` are full names."""

    id: str
    references: tuple[str, ...]
    manifest_digest: str
    manifest: Manifest
    config: ImageConfig
    chains: tuple[str, ...]
    size: int

    @property
    def tags(self) -> list[str]:
        """The names as people write them."""
        return [reference.parse(name).familiar for name in self.references if "@" not in name]

    @property
    def digests(self) -> list[str]:
        """Names by digest: what registries are known to call it by, after a pull or a push."""
        return sorted(reference.parse(name).familiar for name in self.references if "@" in name)

    def summary(self) -> Body:
        """The Engine API's ``ImageSummary``."""
        created = parse_time(self.config.created) // 10**9 if self.config.created else 0
        return {
            "Id": self.id,
            "ParentId": "",
            "RepoTags": self.tags,
            "RepoDigests": self.digests,
            "Created": created,
            "Size": self.size,
            "SharedSize": -1,
            "Containers": -1,
            "Labels": self.config.config.labels or None,
        }

    def inspect(self) -> Body:
        """The Engine API's ``ImageInspect``."""
        run = self.config.config
        return {
            "Id": self.id,
            "RepoTags": self.tags,
            "RepoDigests": self.digests,
            "Parent": "",
            "Comment": next(
                (h["comment"] for h in self.config.history[-1:] if h.get("comment")), ""
            ),
            "Created": self.config.created or ZERO,
            "DockerVersion": "",
            "Author": self.config.author,
            "Config": {
                "User": run.user,
                "ExposedPorts": run.exposed_ports or None,
                "Env": list(run.env),
                "Cmd": list(run.cmd) or None,
                "Entrypoint": list(run.entrypoint) or None,
                "Volumes": run.volumes or None,
                "WorkingDir": run.working_dir,
                "Labels": run.labels or None,
                "StopSignal": run.stop_signal,
                "OnBuild": None,
            },
            "Architecture": self.config.architecture,
            "Os": self.config.os,
            "Size": self.size,
            "GraphDriver": {"Name": "overlay2", "Data": {}},
            "RootFS": {"Type": "layers", "Layers": list(self.config.rootfs.diff_ids)},
            "Metadata": {"LastTagTime": ZERO},
        }


# %% All images
class Images:
    """The images of an engine; safe to use from many threads."""

    def __init__(self, paths: Paths, driver: Driver) -> None:
        self.store = Store(paths.images)
        self.leases = Leases(paths.images / "leases")
        self.driver = driver
        self._lock = RLock()
        self._known: dict[str, Image] = {}
        self._names: dict[str, str] = {}  # the manifests' digests
        self._manifests: dict[str, Image] = {}  # an image may have several, packed in several ways
        self._stamp = (0, 0)
        self._adders = 0
        with suppress(MiniDockError, ValueError):  # what cannot be read says nothing
            self._sweep()

    def list(self) -> "Sequence[Image]":
        """All, the newest first."""
        with self._lock:
            self._refresh()
            return sorted(self._known.values(), key=lambda one: one.config.created, reverse=True)

    def _refresh(self) -> None:
        """Read the index again, if it has changed."""
        stamp = self.store.stamp()
        if stamp == self._stamp:
            return
        known: dict[str, Image] = {}
        names: dict[str, str] = {}
        manifests: dict[str, Image] = {}
        for entry in self.store.manifests():
            digest, name = str(entry["digest"]), reference_of(entry)
            image = manifests[digest] = self._manifests.get(digest) or self._read(digest)
            before = known.get(image.id, image).references
            known[image.id] = replace(image, references=(*before, *([name] if name else [])))
            if name:
                names[name] = digest
        self._known, self._names, self._manifests, self._stamp = known, names, manifests, stamp

    def _read(self, digest: str) -> Image:
        manifest = decode(Manifest, entry_of(self.store.read(digest)))
        config = decode(ImageConfig, entry_of(self.store.read(manifest.config.digest)))
        chains = tuple(oci.chain_ids(config.rootfs.diff_ids))
        size = 0
        for chain in chains:
            with suppress(NotFound):
                size += self.driver.layer_size(chain)
        return Image(manifest.config.digest, (), digest, manifest, config, chains, size)

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
        by_digest = f"{wanted.name}@{wanted.digest}"
        packed = self._manifests.get(
            self._names.get(by_digest if wanted.digest else str(wanted), "")
        )
        if packed is None:
            return self._by_manifest(wanted) if wanted.digest else None
        return replace(packed, references=self._known[packed.id].references)

    def _by_manifest(self, wanted: reference.Reference) -> Image | None:
        """One that no registry has named by this digest, but whose manifest has it."""
        packed = self._manifests.get(wanted.digest)
        image = packed and self._known[packed.id]
        names = {reference.parse(one).name for one in image.references} if image else set()
        return image if wanted.name in names else None

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
                loader.keep_layer(path, diff_id, chain, parent, self.store, self.driver)
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

    # %% Loading and importing
    def load(self, archive: BinaryIO, progress: Callable[[Body], None]) -> "Sequence[str]":
        """Load the images of an archive; returns their names, or ids where they have none."""
        loaded = []
        with self.adding():
            images = loader.load(archive, self.store, self.driver)
            for one in images:
                wanted: Sequence[str | None] = one.names or [None]
                for reference_ in wanted:
                    self.store.name(one.manifest, reference_)
        for one in images:
            for name in one.names:
                shown = reference.parse(name).familiar
                progress({"stream": f"Loaded image: {shown}\n"})
                loaded.append(shown)
            if not one.names:
                progress({"stream": f"Loaded image ID: {one.id}\n"})
                loaded.append(one.id)
        return loaded

    @contextmanager
    def adding(self) -> Iterator[None]:
        """While this lasts nothing is swept: there are blobs and layers that no name leads to yet."""
        with self._lock:
            self._adders += 1
        try:
            yield
        finally:
            with self._lock:
                self._adders -= 1

    def import_rootfs(
        self, archive: BinaryIO, name: str | None, changes: Sequence[str], message: str
    ) -> str:
        """Make an image with one layer from a tar of a root file system; returns its id."""
        wanted = str(reference.parse(name)) if name else None
        run = _apply(changes)
        with self.adding():
            return self._import(archive, wanted, run, message)

    def _import(self, archive: BinaryIO, wanted: str | None, run: Execution, message: str) -> str:
        with loader.temporary(self.store, archive) as path:
            diff_id = loader.diff_id_of(path)
            layer = loader.keep_layer(path, diff_id, diff_id, None, self.store, self.driver)
        history = {"created": now(), "comment": message or "Imported from -"}
        config = ImageConfig(
            architecture=oci.architecture(),
            created=now(),
            config=run,
            rootfs=RootFS(diff_ids=(diff_id,)),
            history=(history,),
        )
        data = json.dumps(encode_config(config)).encode()
        descriptor = Descriptor(oci.CONFIG, self.store.write(data), len(data))
        manifest = Manifest(2, descriptor, (layer,), oci.MANIFEST)
        text = json.dumps(encode(manifest)).encode()
        with self._lock:
            self.store.name(Descriptor(oci.MANIFEST, self.store.write(text), len(text)), wanted)
        return descriptor.digest

    # %% In registries
    def published(self, image: Image) -> bool:
        """Whether a registry is known to have the image's manifest as it is here."""
        with self._lock:
            self._refresh()
            digests = [digest for name, digest in self._names.items() if "@" in name]
        return image.manifest_digest in digests

    def packed(self, diff_id: str) -> Descriptor | None:
        """A compressed blob of the layer, if one is here."""
        with self._lock:
            self._refresh()
            known = list(self._manifests.values())
        for image in known:
            for one, blob in zip(image.config.rootfs.diff_ids, image.manifest.layers, strict=True):
                gzip = blob.media_type.endswith("gzip")
                if one == diff_id and gzip and self.store.has(blob.digest):
                    return blob
        return None

    def repositories_with(self, blob: str, domain: str) -> "Sequence[str]":
        """Paths at the registry of ``domain`` where the blob must be."""
        with self._lock:
            self._refresh()
            names = [(reference.parse(name), key) for name, key in self._names.items()]
            return sorted(
                {
                    name.path
                    for name, key in names
                    if name.digest and name.domain == domain
                    if any(layer.digest == blob for layer in self._manifests[key].manifest.layers)
                }
            )

    def repack(self, image: Image, manifest: bytes, media_type: str) -> str:
        """Put another manifest of the same image in the place of its own; returns its digest."""
        new = Descriptor(media_type, self.store.write(manifest), len(manifest))
        with self.store.changing() as manifests:
            for entry in manifests:
                if entry["digest"] == image.manifest_digest:
                    entry |= {"mediaType": media_type, "digest": new.digest, "size": new.size}
        return new.digest

    # %% Removing
    def remove(
        self, name: str, *, force: bool = False, used_by: Callable[[str], Sequence[str]]
    ) -> "Sequence[Body]":
        """Take a name away; with the last of them the image. Refused while a container is made from it."""
        with self._lock:
            image = self.get(name)
            by_name = self._by_name(name) is not None
            users = used_by(image.id)
            if by_name and (names := self._going(image, name)) != set(image.references):
                return self._untag(image, sorted(names))
            if users and not force:
                _refuse(name, image, users[0][:12], by_name)
            if not by_name and not force and not _one_name(image):
                raise Conflict(
                    f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is"
                    " referenced in multiple repositories"
                )
            removed = self._untag(image, image.references)
            if users:
                return removed
            with steps.step(
                "remove the image", call="unlink(2)", chapter="images", id=image.id[:19]
            ):
                return [*removed, *self._delete(image)]

    def _going(self, image: Image, name: str) -> set[str]:
        """``name``, and with the last tag of its repository what the repository calls it by digest."""
        wanted = reference.parse(name)
        full = f"{wanted.name}@{wanted.digest}" if wanted.digest else str(wanted)
        there = [one for one in image.references if reference.parse(one).name == wanted.name]
        others = [one for one in there if "@" not in one and one != full]
        return {full} if others or "@" in full else {full, *there}

    def _untag(self, image: Image, names: Sequence[str]) -> "Sequence[Body]":
        with self.store.changing() as manifests:
            manifests[:] = [entry for entry in manifests if reference_of(entry) not in names]
            if all(self._id_of(entry) != image.id for entry in manifests):
                descriptor = self._descriptor(image)
                manifests.append(
                    {
                        "mediaType": descriptor.media_type,
                        "digest": descriptor.digest,
                        "size": descriptor.size,
                    }
                )
        return [{"Untagged": reference.parse(name).familiar} for name in names]

    def _id_of(self, entry: Body) -> str:
        """The image that an entry of the index is about."""
        known = self._manifests.get(str(entry["digest"]))
        return known.id if known else ""

    def _delete(self, image: Image) -> "Sequence[Body]":
        with self.store.changing() as manifests:
            manifests[:] = [one for one in manifests if self._id_of(one) != image.id]
        swept = self._sweep()
        gone = [chain for chain in reversed(image.chains) if chain in swept]
        return [{"Deleted": image.id}, *({"Deleted": chain} for chain in gone)]

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


# %% Words
def _one_name(image: Image) -> bool:
    """One tag, or none, in one repository: nobody else will miss it."""
    names = [reference.parse(one) for one in image.references]
    return len({one.name for one in names}) <= 1 and sum(not one.digest for one in names) <= 1


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


# %% Changes to a configuration: import --change
def _apply(changes: Sequence[str]) -> Execution:
    """Lines of a Dockerfile: ``CMD``, ``ENTRYPOINT``, ``ENV``, ``EXPOSE``, ``LABEL``, ``USER``, …"""
    run = Execution()
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        rest = rest.strip()
        if word.upper() in ("CMD", "ENTRYPOINT"):
            named: dict[str, Any] = {word.lower(): _command(rest)}
            run = replace(run, **named)
        elif word.upper() == "ENV":
            run = replace(run, env=(*run.env, rest if "=" in rest else rest.replace(" ", "=", 1)))
        elif word.upper() == "EXPOSE":
            ports: Body = {port if "/" in port else f"{port}/tcp": {} for port in rest.split()}
            run = replace(run, exposed_ports={**run.exposed_ports, **ports})
        elif word.upper() == "LABEL":
            key, _, value = rest.partition("=")
            run = replace(run, labels={**run.labels, key: value.strip('"')})
        elif word.upper() in ("USER", "WORKDIR", "STOPSIGNAL"):
            field = {"USER": "user", "WORKDIR": "working_dir", "STOPSIGNAL": "stop_signal"}
            text: dict[str, Any] = {field[word.upper()]: rest}
            run = replace(run, **text)
        elif word.upper() == "VOLUME":
            run = replace(run, volumes={**run.volumes, rest: {}})
        else:
            raise InvalidParameter(f"{word} is not a valid change command")
    return run


def _command(text: str) -> tuple[str, ...]:
    if text.startswith("["):
        with suppress(ValueError):
            return tuple(str(part) for part in json.loads(text))
    return ("/bin/sh", "-c", text)


def encode_config(config: ImageConfig) -> Body:
    """A configuration as JSON; what must be there even if it is empty is there."""
    return {"os": config.os, "rootfs": {"type": "layers", "diff_ids": []}, **encode(config)} | {
        "rootfs": {"type": "layers", "diff_ids": list(config.rootfs.diff_ids)}
    }
