"""Loading: an archive with images in it becomes images in the store.

Two formats are about: ``docker save`` writes a ``manifest.json`` that names
configurations and layers by path, other tools an OCI layout with an
``index.json``; newer archives are both at once. Either may be compressed as
a whole, and so may each layer.

The archive comes through a socket and can be read but once, while the file
that says what everything is may come last. So all files go into a temporary
directory first; then each layer is read once (see :mod:`.layers`), two
layers at a time.

The trap is trust: names, links and digests in the archive are somebody
else's, and nothing gets its place in the store before it was checked.

**Interface:** :func:`load`.

**See:** OCI image specification, image-layout.md; moby ``image/tarexport``.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from minidock import steps
from minidock.errors import HostileArchive, InvalidParameter, MiniDockError
from minidock.images.compression import inflated
from minidock.images.layers import keep_layer
from minidock.images.progress import Progress, Say
from minidock.images.store import Store, entry_of
from minidock.spec import image as oci
from minidock.spec import reference
from minidock.spec.codec import decode
from minidock.spec.image import Descriptor, ImageConfig, Manifest, encode_manifest
from minidock.unionfs import Driver
from minidock.unionfs.archive import split_name
from minidock.unionfs.stream import Forward, Header

PIECE = 1 << 20


# %% What an archive holds
@dataclass(frozen=True, slots=True)
class Found:
    """One image of an archive: where its parts lie, and the names it is to have.

    ``manifest``: the bytes that the archive has for it, if it is an OCI layout.
    """

    config: Path
    layers: list[Path]
    names: list[str]
    manifest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image in the store."""

    manifest: Descriptor
    names: list[str]
    id: str


def load(archive: BinaryIO, store: Store, driver: Driver, say: Say | None = None) -> list[Loaded]:
    """Load all images of ``archive``, and ``say`` how far each new layer is.

    Raises :class:`HostileArchive` for one that is damaged or lies. What was
    kept by then has no name, and goes with the next sweep.
    """
    with tempfile.TemporaryDirectory(prefix=".load-", dir=store.root) as name:
        top = Path(name)
        with steps.step("unpack the archive", call="read(2)", chapter="images"):
            _unpack(archive, top, store.spend)
        found = list(_docker(top) if (top / "manifest.json").exists() else _oci(top))
        if not found:
            raise InvalidParameter(
                "the archive holds no image (neither manifest.json nor index.json)"
            )
        return [_keep(one, store, driver, say) for one in found]


# %% Unpacking it
def _unpack(archive: BinaryIO, top: Path, spend: Callable[[int], object]) -> None:
    """The files of the archive; links among them (``docker save`` has some) stay within."""
    try:
        with (
            inflated(archive) as plain,
            tarfile.open(fileobj=cast(Any, Forward(plain)), mode="r:", tarinfo=Header) as source,
        ):
            for member in source:
                parent, name = split_name(member.name)
                if not name or member.isdir():
                    continue
                place = top / parent / name
                place.parent.mkdir(parents=True, exist_ok=True)
                if member.isreg():
                    content = source.extractfile(member)
                    assert content is not None
                    spend(member.size)
                    with open(place, "xb") as file:
                        shutil.copyfileobj(content, file, PIECE)
                    if place.stat().st_size != member.size:
                        raise HostileArchive(f"damaged archive: it ends within {member.name!r}")
                elif member.issym():
                    place.symlink_to(_within(top, place.parent, member))
                else:
                    raise HostileArchive(f"unexpected {member.name!r} in an image archive")
    except (tarfile.TarError, EOFError, FileExistsError) as error:
        raise HostileArchive(f"damaged archive: {error}") from None


def _within(top: Path, parent: Path, member: tarfile.TarInfo) -> Path:
    target = Path(os.path.normpath(parent / member.linkname))
    if not target.is_relative_to(top):
        raise HostileArchive(f"link {member.name!r} points to {member.linkname!r}")
    return target


# %% What docker save writes
def _docker(top: Path) -> Iterator[Found]:
    """``manifest.json``: a list of images, by paths."""
    entries = entry_of((top / "manifest.json").read_bytes())
    layout: dict[Path, bytes | None] = {}
    with suppress(MiniDockError):  # newer archives are OCI layouts as well, and have the manifest
        layout = {one.config: one.manifest for one in _oci(top)}
    for entry in _list(entries):
        names = [_full(tag) for tag in entry.get("RepoTags") or []]
        layers = [_file(top, path) for path in entry.get("Layers") or []]
        config = _file(top, entry["Config"])
        yield Found(config, layers, names, layout.get(config))


# %% An OCI layout
def _oci(top: Path) -> Iterator[Found]:
    """``index.json``: descriptors; one may be an index again, for many machines."""
    if not (top / "index.json").exists():
        return
    index = entry_of((top / "index.json").read_bytes())
    for entry in _list(index.get("manifests")):
        found = _manifest(top, decode(Descriptor, entry))
        if found is None:
            continue
        notes = entry.get("annotations") or {}
        name = notes.get(oci.CONTAINERD_NAME) or notes.get(oci.REF_NAME)
        manifest = decode(Manifest, entry_of(found))
        yield Found(
            _blob(top, manifest.config.digest),
            [_blob(top, layer.digest) for layer in manifest.layers],
            [_full(name)] if name else [],
            found,
        )


def _manifest(top: Path, descriptor: Descriptor) -> bytes | None:
    data = _blob(top, descriptor.digest).read_bytes()
    if descriptor.media_type not in oci.INDEXES:
        return data
    value = entry_of(data)
    for entry in _list(value.get("manifests")):
        inner = decode(Descriptor, entry)
        if inner.platform is None or inner.platform.get("architecture") == oci.architecture():
            return _manifest(top, inner)
    return None


# %% Trusting nothing
def _list(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise HostileArchive("damaged archive: a list of images was expected")
    return value


def _full(name: str) -> str:
    return str(reference.parse(name))


def _file(top: Path, path: str) -> Path:
    place = top.joinpath(*[part for part in split_name(path) if part])
    if not place.resolve().is_relative_to(top.resolve()) or not place.is_file():
        raise HostileArchive(f"damaged archive: {path!r} is not in it")
    return place


def _blob(top: Path, digest: str) -> Path:
    """A blob of the layout, which must have the digest that it is called by."""
    path = _file(top, f"blobs/{digest.replace(':', '/', 1)}")
    with open(path, "rb") as file:
        real = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != f"sha256:{real}":
        raise HostileArchive(f"digest does not match: {digest} was announced, sha256:{real} came")
    return path


# %% Keeping an image
def _keep(found: Found, store: Store, driver: Driver, say: Say | None) -> Loaded:
    """Layers, then the configuration byte by byte as it came (its digest is the image's id)."""
    data = found.config.read_bytes()
    config = decode(ImageConfig, entry_of(data))
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(found.layers):
        raise HostileArchive(
            f"damaged archive: {len(found.layers)} layers for {len(diff_ids)} diff_ids"
        )
    layers = _keep_layers(found, diff_ids, store, driver, say)
    config_descriptor = Descriptor(oci.CONFIG, store.write(data), len(data))
    text = _papers(found, Manifest(2, config_descriptor, tuple(layers), oci.MANIFEST))
    kind = str(entry_of(text).get("mediaType") or oci.MANIFEST)
    return Loaded(
        Descriptor(kind, store.write(text), len(text)), found.names, config_descriptor.digest
    )


def _papers(found: Found, ours: Manifest) -> bytes:
    """The archive's own manifest, byte by byte, so that its digest survives; ours if it fits not."""
    if found.manifest is not None:
        theirs = decode(Manifest, entry_of(found.manifest))
        if [one.digest for one in theirs.layers] == [one.digest for one in ours.layers]:
            return found.manifest
    return encode_manifest(ours)


def _keep_layers(
    found: Found, diff_ids: tuple[str, ...], store: Store, driver: Driver, say: Say | None
) -> list[Descriptor]:
    chains = oci.chain_ids(diff_ids)

    def one(number: int) -> Descriptor:
        path, diff_id, chain = found.layers[number], diff_ids[number], chains[number]
        parent = chains[number - 1] if number else None
        progress = None
        if say is not None and not driver.has_layer(chain):
            progress = Progress(say, diff_id, "Loading layer", path.stat().st_size)
        return keep_layer(path, diff_id, chain, parent, store, driver, progress)

    # A copy needs its parent first; overlay's layers do not know each other.
    workers = 2 if driver.alone else 1
    # A pool's thread has an empty context: without a copy nobody would hear of its steps.
    contexts = [copy_context() for _ in diff_ids]
    with ThreadPoolExecutor(workers) as pool:
        return list(
            pool.map(lambda number: contexts[number].run(one, number), range(len(diff_ids)))
        )
