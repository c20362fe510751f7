"""Pushing: what a registry lacks of an image, and then the image's name.

The bytes of a manifest are what its digest is of, so an image that came from
somewhere is published with the very bytes that came. Each layer is asked
for first: it may be there; it may be in another repository of the same
registry, which can take it from itself (*mount*); else it is sent.

The traps. An image that was imported, committed or loaded from ``docker
save`` has layers that are not compressed. They are compressed on the way
out, and kept so: the image's manifest is written anew with the compressed
layers, so that it is done but once, and the digest stays. Its
configuration, and so its id, does not change by it. But a manifest that a
registry has given us is not ours to rewrite.

**Interface:** :class:`Push`.

**See:** OCI distribution specification, "Push"; moby
``distribution/push_v2.go``, for the words.
"""

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from minidock import steps
from minidock.errors import NotFound
from minidock.images import Images
from minidock.images.deflate import deflate
from minidock.images.image import Image
from minidock.images.store import Blob, entry_of
from minidock.registry import known
from minidock.registry.client import Content, Repository
from minidock.registry.progress import Progress
from minidock.registry.pull import Locks, Transfer
from minidock.registry.transfer import Growing, Reader, Told, upload
from minidock.spec import image as oci
from minidock.spec.image import Descriptor
from minidock.spec.reference import Reference, parse

PLAIN = {oci.LAYER: oci.LAYER + "+gzip"}
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
PLAIN[DOCKER_LAYER] = DOCKER_LAYER + ".gzip"


# %% What goes out
@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image; ``pack``: it is to be compressed."""

    diff_id: str
    blob: Descriptor
    pack: bool

    @property
    def id(self) -> str:
        """Twelve digits, of the layer itself: they are the same in all registries."""
        return self.diff_id.partition(":")[2][:12]


# %% A push
class Push(Transfer):
    """One push to one repository."""

    def __init__(
        self, images: Images, repository: Repository, progress: Progress, locks: Locks
    ) -> None:
        super().__init__(images, repository, progress, locks)
        self._packed: dict[str, Descriptor] = {}  # by diff_id

    def run(self, name: Reference, tag: str) -> None:
        """Push ``name``:``tag``; with an empty tag all tags that there are here."""
        shown = name.familiar_name
        self.progress.message(f"The push refers to repository [{name.name}]")
        wanted = [f"{name.name}:{tag}"] if tag else self._tags(name)
        images = [(one, self.images.find(one)) for one in wanted]
        if not images or any(image is None for _, image in images):
            raise NotFound(f"An image does not exist locally with the tag: {shown}")
        self.repository.open()
        with self.images.adding():
            for one, image in images:
                assert image is not None
                self._image(parse(one), image)

    def _tags(self, name: Reference) -> list[str]:
        names = {one for image in self.images.list() for one in image.references}
        return sorted(one for one in names if "@" not in one and parse(one).name == name.name)

    def _image(self, name: Reference, image: Image) -> None:
        layers = self._layers(image)
        for layer in reversed(layers):
            self.progress.layer("Preparing", layer.id)
        blobs = self._all(layers)
        self._configuration(image)
        content = self._content(image, layers, blobs)
        with steps.step("publish the manifest", call="PUT", chapter="registry", name=name):
            self.repository.put_manifest(name.tag, content)
            by_digest = f"{name.name}@{content.digest}"
            kind, size = content.media_type, len(content.data)
            self.images.store.name(Descriptor(kind, content.digest, size), by_digest)
        self.progress.message(f"{name.tag}: digest: {content.digest} size: {size}")
        self.progress.aux({"Tag": name.tag, "Digest": content.digest, "Size": size})

    def _layers(self, image: Image) -> list[Layer]:
        ours = not known.published(self.images, image)
        pairs = zip(image.config.rootfs.diff_ids, image.manifest.layers, strict=True)
        return [Layer(diff_id, blob, ours and blob.media_type in PLAIN) for diff_id, blob in pairs]

    # %% All layers
    def _all(self, layers: Sequence[Layer]) -> list[Descriptor]:
        """Several at a time, the topmost first: it is the one most likely to be new."""
        workers = self.repository.settings.uploads
        for layer in layers[: max(0, len(layers) - workers)]:
            self.progress.layer("Waiting", layer.id)
        contexts = [copy_context() for _ in layers]
        with ThreadPoolExecutor(workers, thread_name_prefix="push") as pool:
            todo = [
                pool.submit(context.run, self._layer, layer)
                for context, layer in zip(contexts, reversed(layers), strict=True)
            ]
            try:
                return [one.result() for one in todo][::-1]
            except BaseException:
                self.repository.cancel.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _layer(self, layer: Layer) -> Descriptor:
        """The layer's blob, once the registry has it."""
        target = f"push {self.repository.domain}/{self.repository.path} {layer.diff_id}"
        with self.locks(target):
            blob = known.packed(self.images, layer.diff_id) if layer.pack else layer.blob
            blob = self._packed.get(layer.diff_id, blob) if layer.pack else blob
            if blob is None:
                with self.locks(f"pack {layer.diff_id}"):
                    blob = self._packed[layer.diff_id] = self._pack_and_send(layer)
            else:
                self._send(layer, blob)
        return blob

    # %% One layer
    def _send(self, layer: Layer, blob: Descriptor) -> None:
        """By the cheapest way there is."""
        with steps.step("ask for a blob", call="HEAD", chapter="registry", layer=layer.id):
            there = self.repository.has_blob(blob.digest)
        if there:
            self.progress.layer("Layer already exists", layer.id)
            return
        for source in known.repositories_with(self.images, blob.digest, self.repository.domain):
            if source != self.repository.path and self._mount(layer, blob, source):
                return
        file = Growing(self.images.store.path(blob.digest))
        file.finish()
        try:
            upload(self.repository, file, lambda: blob.digest, self._told(layer, blob.size))
        finally:
            file.close()
        self.progress.layer("Pushed", layer.id)

    def _mount(self, layer: Layer, blob: Descriptor, source: str) -> bool:
        with steps.step("mount a blob", call="POST", chapter="registry", source=source):
            if self.repository.begin_upload(blob.digest, source):
                return False  # an upload was begun instead; the registry forgets it
        self.progress.layer(f"Mounted from {source}", layer.id)
        return True

    def _told(self, layer: Layer, total: int) -> Told:
        return lambda size: self.progress.moved("Pushing", layer.id, size, total)

    # %% Compressing on the way
    def _pack_and_send(self, layer: Layer) -> Descriptor:
        """A thread compresses into a file that grows; what is there is sent meanwhile."""
        store = self.images.store
        with tempfile.TemporaryDirectory(prefix=".load-", dir=store.root) as name:
            path = Path(name) / "layer"
            file, blobs = Growing(path), list[Blob]()
            context = copy_context()
            thread = Thread(
                target=lambda: context.run(self._pack, layer, file, blobs), name="pack", daemon=True
            )
            thread.start()
            try:
                upload(self.repository, file, lambda: blobs[0].digest, lambda size: None)
            finally:
                file.abandon()
                thread.join()
                file.close()
            blob = blobs[0]
            store.adopt(path, blob.digest)
        self.progress.layer("Pushed", layer.id)
        return Descriptor(PLAIN[layer.blob.media_type], blob.digest, blob.size)

    def _pack(self, layer: Layer, file: Growing, blobs: list[Blob]) -> None:
        source = Growing(self.images.store.path(layer.blob.digest))
        source.finish()
        blob = Blob(file, spend=self.images.quota.spend)
        blobs.append(blob)
        try:
            with steps.step("compress a layer", call="deflate", chapter="registry", layer=layer.id):
                for piece in deflate(Reader(source, self._told(layer, layer.blob.size))):
                    blob.write(piece)
        except BaseException as error:  # noqa: BLE001 (raised in who reads the file)
            file.finish(error)
        else:
            file.finish()
        finally:
            source.close()

    # %% The papers
    def _configuration(self, image: Image) -> None:
        blob = image.manifest.config
        if not self.repository.has_blob(blob.digest):
            with steps.step("upload the configuration", call="POST PUT", chapter="registry"):
                self.repository.put_blob(self.images.store.read(blob.digest), blob.digest)

    def _content(
        self, image: Image, layers: Sequence[Layer], blobs: Sequence[Descriptor]
    ) -> Content:
        """The manifest as it is here, or with the compressed layers in place of the plain ones."""
        data = self.images.store.read(image.manifest_digest)
        kind = image.manifest.media_type or oci.MANIFEST
        if not any(layer.pack for layer in layers):
            return Content(kind, image.manifest_digest, data)
        value = entry_of(data)
        for entry, blob in zip(value["layers"], blobs, strict=True):
            entry |= {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
        text = json.dumps(value).encode()
        with steps.step("rewrite the manifest", call="rename(2)", chapter="registry"):
            digest = known.repack(self.images, image, text, kind)
        return Content(kind, digest, text)
