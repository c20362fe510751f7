"""Pulling: from a name to an image.

The tag names a manifest, or an index of manifests for many machines; the
manifest names a configuration and layers. What of it is here already is not
fetched. Each layer is read once: as its blob comes down it is hashed,
inflated, hashed again and extracted, several layers at a time.

The traps. Two pulls of one image must not do the work twice, nor spoil each
other's: whoever comes second to a blob waits for the first. An image is
named last, when all of it is here and has the digests that were promised.
And what was finished before a failure is kept, on a lease
(:mod:`minidock.images.leases`), for the next try.

**Interface:** :class:`Pull`, :class:`Transfer`, :class:`Locks`.

**See:** OCI image specification, "manifest"; moby
``distribution/pull_v2.go``, for the words.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from threading import Lock, Thread

from minidock import steps
from minidock.errors import HostileArchive, InvalidParameter, NotSupported
from minidock.images import Images
from minidock.images.layers import extract_layer
from minidock.images.quota import QuotaExceeded
from minidock.images.store import entry_of
from minidock.registry.client import Content, Repository
from minidock.registry.progress import Progress
from minidock.registry.transfer import Growing, Reader, download
from minidock.spec import image as oci
from minidock.spec import platform as platforms
from minidock.spec.codec import decode
from minidock.spec.image import Descriptor, ImageConfig, Manifest
from minidock.spec.platform import Platform
from minidock.spec.reference import Reference

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


# %% One at a time
class Locks:
    """A lock for every name, as long as somebody has it or wants it.

    A plain layer's blob, the layer and the stack may all have one digest: say which is meant.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._known: dict[str, tuple[Lock, int]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Alone with ``name``."""
        with self._guard:
            lock, users = self._known.get(name, (Lock(), 0))
            self._known[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._known.pop(name)
                if users > 1:
                    self._known[name] = lock, users - 1


# %% What a name leads to
@dataclass(frozen=True, slots=True)
class Layer:
    """One layer on its way; ``id`` is what users see of it."""

    blob: Descriptor
    diff_id: str
    chain: str
    parent: str | None

    @property
    def id(self) -> str:
        """Twelve digits."""
        return self.blob.digest.partition(":")[2][:12]


@dataclass(frozen=True, slots=True)
class Plan:
    """``digest`` is that of what the name leads to (perhaps an index), ``content`` the manifest."""

    digest: str
    content: Content
    config: bytes
    manifest: Manifest
    layers: tuple[Layer, ...]


# %% A pull
class Transfer:
    """What a pull and a push need: our store, the repository, somebody to tell, and the locks."""

    def __init__(
        self, images: Images, repository: Repository, progress: Progress, locks: Locks
    ) -> None:
        self.images = images
        self.repository = repository
        self.progress = progress
        self.locks = locks


class Pull(Transfer):
    """One pull from one repository."""

    def run(self, wanted: Reference, platform: Platform | None) -> str:
        """Pull ``wanted``; returns the image's id."""
        which = wanted.digest or wanted.tag
        with steps.step("ask for the manifest", call="HEAD GET", chapter="registry", name=wanted):
            known = self._known(wanted, platform)
            plan = None if known else self._plan(which, platform or platforms.here())
        self.progress.message(f"Pulling from {self.repository.path}", which)
        if plan is not None:
            known = plan.digest
            new = self._take(plan, wanted)
        else:
            new = False
        self.progress.message(f"Digest: {known}")
        words = "Downloaded newer image for" if new else "Image is up to date for"
        self.progress.message(f"Status: {words} {wanted.familiar}")
        return self.images.get(str(wanted)).id

    def _known(self, wanted: Reference, platform: Platform | None) -> str:
        """The digest of what the name leads to, if that is the image that has the name here."""
        digest = wanted.digest or self.repository.head(wanted.tag)
        image = self.images.find(f"{wanted.name}@{digest}") if digest else None
        named = self.images.find(str(wanted))
        if image is None or named is None or named.id != image.id or not self.images.whole(image):
            return ""
        here = Platform(image.config.os, image.config.architecture)
        if platform and (platform.os, platform.architecture) != (here.os, here.architecture):
            return ""
        self.images.leases.give_back(image.manifest_digest)  # if it was cut off just after its end
        return digest

    # %% The papers
    def _plan(self, which: str, platform: Platform) -> Plan:
        """Index, manifest, configuration; each compared with what was announced."""
        top = content = self.repository.manifest(which)
        while _kind(content) in oci.INDEXES:
            entries = entry_of(content.data).get("manifests")
            if not isinstance(entries, list):
                raise HostileArchive(f"the index {content.digest} lists no manifests")
            chosen = platforms.choose([decode(Descriptor, one) for one in entries], platform)
            content = self.repository.manifest(chosen.digest)
        if _kind(content) not in oci.MANIFESTS:
            raise NotSupported(f"unsupported manifest media type: {_kind(content) or 'none'}")
        manifest = decode(Manifest, entry_of(content.data))
        if manifest.config.media_type not in (oci.CONFIG, DOCKER_CONFIG):
            raise InvalidParameter(
                f"unsupported media type {manifest.config.media_type}: {which} is not an image"
            )
        config = self._configuration(manifest.config)
        return Plan(top.digest, content, config, manifest, _layers(manifest, config))

    def _configuration(self, blob: Descriptor) -> bytes:
        if self.images.store.has(blob.digest):
            return self.images.store.read(blob.digest)
        return self.repository.small_blob(blob.digest)

    # %% Everything that is missing
    def _take(self, plan: Plan, wanted: Reference) -> bool:
        """Fetch what is missing, then give the names; whether anything is new."""
        store, leases, key = self.images.store, self.images.leases, plan.content.digest
        blobs = [key, plan.manifest.config.digest, *(one.digest for one in plan.manifest.layers)]
        names = [f"{wanted.name}@{plan.digest}"]
        names += [f"{wanted.name}:{wanted.tag}"] if wanted.tag else []
        with self.images.adding():
            leases.take(key, blobs, [layer.chain for layer in plan.layers])
            try:
                self._fetch(plan.layers)
            except QuotaExceeded:  # there will not be more room when somebody tries again
                leases.give_back(key)
                raise
            before = [self.images.find(name) for name in names]
            with steps.step("name the image", call="rename(2)", chapter="registry", name=wanted):
                store.write(plan.config, plan.manifest.config.digest)
                store.write(plan.content.data, key)
                kind, size = _kind(plan.content), len(plan.content.data)
                store.name(Descriptor(kind, key, size), *names)
            leases.give_back(key)
        return any(image is None or image.manifest_digest != key for image in before)

    def _fetch(self, layers: Sequence[Layer]) -> None:
        missing = list[Layer]()
        for layer in layers:
            if self._has(layer):  # a daemon that was killed just then may have left its file
                self.images.leases.partial(layer.blob.digest).unlink(missing_ok=True)
                self.progress.layer("Already exists", layer.id)
            else:
                self.progress.layer("Pulling fs layer", layer.id)
                missing.append(layer)
        workers = self.repository.settings.downloads
        for layer in missing[workers:]:
            self.progress.layer("Waiting", layer.id)
        if self.images.driver.alone:
            self._all(missing, self._stream, workers)
            return
        # A copy needs its parent first: fetch all of them, then one after the other.
        self._all(missing, self._only_fetch, workers)
        for layer in missing:
            self._only_extract(layer)

    def _has(self, layer: Layer) -> bool:
        has_blob = self.images.store.has(layer.blob.digest)
        return has_blob and self.images.driver.has_layer(layer.chain)

    def _all(self, layers: Sequence[Layer], work: Callable[[Layer], None], workers: int) -> None:
        """Several at a time; the first that fails stops the others, and is what is raised."""
        # A pool's thread has an empty context: without a copy nobody would hear of its steps.
        contexts = [copy_context() for _ in layers]
        with ThreadPoolExecutor(workers, thread_name_prefix="pull") as pool:
            todo = [
                pool.submit(context.run, work, layer)
                for context, layer in zip(contexts, layers, strict=True)
            ]
            done, _ = wait(todo, return_when=FIRST_EXCEPTION)
            failed = [error for one in done if (error := one.exception()) is not None]
            if failed:
                self.repository.cancel.set()
                pool.shutdown(cancel_futures=True)
                raise failed[0]

    # %% One layer
    def _stream(self, layer: Layer) -> None:
        """Fetch and extract at once, whichever of it is missing."""
        with self.locks(f"blob {layer.blob.digest}"), self.locks(f"layer {layer.chain}"):
            if not self.images.store.has(layer.blob.digest):
                self._fetch_one(layer, extract=not self.images.driver.has_layer(layer.chain))
            elif not self.images.driver.has_layer(layer.chain):
                self._extract_kept(layer)
        self.progress.layer("Pull complete", layer.id)

    def _only_fetch(self, layer: Layer) -> None:
        with self.locks(f"blob {layer.blob.digest}"):
            if not self.images.store.has(layer.blob.digest):
                self._fetch_one(layer, extract=False)

    def _only_extract(self, layer: Layer) -> None:
        with self.locks(f"layer {layer.chain}"):
            if not self.images.driver.has_layer(layer.chain):
                self._extract_kept(layer)
        self.progress.layer("Pull complete", layer.id)

    def _extract_kept(self, layer: Layer) -> None:
        """From the blob that is here."""
        file = Growing(self.images.store.path(layer.blob.digest))
        file.finish()
        try:
            self._extract(layer, file)
        finally:
            file.close()

    def _extract(self, layer: Layer, file: Growing) -> None:
        def told(position: int) -> None:
            self.repository.cancel.check()
            if file.over:
                self.progress.moved("Extracting", layer.id, position, layer.blob.size)

        reader, driver = Reader(file, told), self.images.driver
        spend = self.images.quota.spend
        extract_layer(reader, layer.diff_id, layer.chain, layer.parent, driver, spend)

    # %% From the registry
    def _fetch_one(self, layer: Layer, extract: bool) -> None:
        """What an earlier pull has left is taken up; if it turns out to be bad, begin anew."""
        partial = self.images.leases.partial(layer.blob.digest)
        resumed = partial.exists()
        there = partial.stat().st_size if resumed else 0
        self.images.quota.spend(max(0, layer.blob.size - there))
        try:
            self._fetch_file(layer, extract)
        except HostileArchive:
            partial.unlink(missing_ok=True)
            if not resumed:
                raise
            self._fetch_file(layer, extract)
        with steps.step("keep the blob", call="link(2)", chapter="registry", layer=layer.id):
            self.images.store.adopt(partial, layer.blob.digest)
            partial.unlink(missing_ok=True)

    def _fetch_file(self, layer: Layer, extract: bool) -> None:
        """A thread downloads; meanwhile, behind it, the layer is extracted."""
        file = Growing(self.images.leases.partial(layer.blob.digest))
        errors: list[BaseException] = []
        context = copy_context()

        def fetch() -> None:
            try:
                context.run(self._download, layer, file)
            except BaseException as error:  # noqa: BLE001 (raised again below)
                errors.append(error)

        thread = Thread(target=fetch, name="download", daemon=True)
        thread.start()
        try:
            if extract:
                self._extract(layer, file)
        except BaseException:
            file.abandon()
            raise
        finally:
            thread.join()
            file.close()
        if errors:
            raise errors[0]

    def _download(self, layer: Layer, file: Growing) -> None:
        def told(size: int) -> None:
            self.progress.moved("Downloading", layer.id, size, layer.blob.size)

        download(self.repository, layer.blob, file, told)
        self.progress.layer("Verifying Checksum", layer.id)
        self.progress.layer("Download complete", layer.id)


# %% Reading the papers
def _kind(content: Content) -> str:
    """What the manifest says it is, or else what the server said."""
    value = entry_of(content.data)
    said = value.get("mediaType") if isinstance(value, dict) else None
    return str(said or content.media_type)


def _layers(manifest: Manifest, config: bytes) -> tuple[Layer, ...]:
    diff_ids = decode(ImageConfig, entry_of(config)).rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise HostileArchive(
            f"invalid image: {len(manifest.layers)} layers for {len(diff_ids)} diff_ids"
        )
    chains = oci.chain_ids(diff_ids)
    parents = [None, *chains[:-1]]
    return tuple(map(Layer, manifest.layers, diff_ids, chains, parents))
