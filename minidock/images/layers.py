"""One layer: from a file, compressed or not, to a blob and a tree, in one pass.

A layer has two digests: that of the blob, as it travels, and that of the tar
inside it, by which the configuration knows it. Both are computed while the
layer is extracted, so that its bytes are read only once.

The traps. Digests are compared before anything is given its name. What
follows the end of the compressed data belongs to the blob, too. And OCI
knows layers that are compressed by gzip or zstd, or not at all; one by bzip2
or xz, which ``docker load`` takes as well, is kept uncompressed, because no
other tool would read it from our store. (Its ids do not change: they are
made of the uncompressed digests.)

**Interface:** :func:`keep_layer`, :func:`extract_layer`, :func:`diff_id_of`, :func:`temporary`.

**See:** OCI image specification, layer.md ("Media Types"), config.md ("Layer
DiffID").
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from minidock import steps
from minidock.errors import HostileArchive
from minidock.images.compression import Ahead, inflated
from minidock.images.progress import Progress
from minidock.images.store import Spend, Store
from minidock.spec import image as oci
from minidock.spec.image import Descriptor
from minidock.unionfs import Driver

PIECE = 1 << 20

KEPT_AS_THEY_ARE = ("", "+gzip", "+zstd")


# %% Keeping a layer
def keep_layer(
    path: Path,
    diff_id: str,
    chain: str,
    parent: str | None,
    store: Store,
    driver: Driver,
    progress: Progress | None = None,
) -> Descriptor:
    """Store the layer in the file ``path`` as a blob, and extract it; both in one pass.

    Raises :class:`HostileArchive` if it is damaged, or not the one with ``diff_id``.
    """
    with (
        steps.step("keep a layer", call="link(2)", chapter="images", diff_id=diff_id[:19]),
        open(path, "rb") as file,
        ExitStack() as stack,
    ):
        packed = _Hashed(file, copy=progress.advance if progress else None)
        plain = stack.enter_context(inflated(packed))
        as_it_is = plain.suffix in KEPT_AS_THEY_ARE
        blob = None if as_it_is else stack.enter_context(store.writing(diff_id))
        tar = _Hashed(plain, diff_id, blob.write if blob else None)
        _extract(tar, chain, parent, driver, store.spend)
        while packed.read(PIECE):  # what may follow the compressed data
            pass
        if progress:
            progress.finish()
        if not as_it_is:
            return Descriptor(oci.LAYER, diff_id, tar.size)
        store.adopt(path, packed.digest)
        return Descriptor(oci.LAYER + plain.suffix, packed.digest, packed.size)


def extract_layer(
    file: Any, diff_id: str, chain: str, parent: str | None, driver: Driver, spend: Spend
) -> None:
    """Inflate, hash and extract what comes from ``file``, to its end, in one pass.

    Raises :class:`HostileArchive` if it is damaged, or not the one with ``diff_id``.
    """
    with inflated(file) as plain:
        _extract(_Hashed(plain, diff_id), chain, parent, driver, spend)
    while file.read(PIECE):  # what may follow the compressed data
        pass


def _extract(tar: "_Hashed", chain: str, parent: str | None, driver: Driver, spend: Spend) -> None:
    """Make the tree here, while a thread inflates and hashes what comes next."""
    ahead = Ahead(tar)
    source = ahead if driver.has_layer(chain) else _Spending(ahead, spend)
    try:
        driver.create_layer(chain, parent, cast(BinaryIO, source))
    finally:
        ahead.close()


def diff_id_of(path: Path) -> str:
    """The digest of the tar in the file ``path``."""
    digest = hashlib.sha256()
    with open(path, "rb") as file, inflated(file) as plain:
        while data := plain.read(PIECE):
            digest.update(data)
    return f"sha256:{digest.hexdigest()}"


# %% A file that looks on
class _Hashed:
    """A file that is hashed while it is read; at its end the digest must be the expected one.

    ``copy`` is given everything that is read.
    """

    def __init__(
        self,
        file: Any,
        expected: str | None = None,
        copy: Callable[[bytes], object] | None = None,
    ) -> None:
        self._file = file
        self._expected = expected
        self._copy = copy
        self._hash = hashlib.new((expected or "sha256").partition(":")[0])
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read, and hash. Raises :class:`HostileArchive` at the end of another file."""
        data: bytes = self._file.read(size)
        self._hash.update(data)
        self.size += len(data)
        if self._copy and data:
            self._copy(data)
        if not data and size != 0 and self._expected not in (None, self.digest):
            raise HostileArchive(
                f"digest does not match: layer {self._expected} was announced, {self.digest} came"
            )
        return data

    @property
    def digest(self) -> str:
        """Of all that was read."""
        return f"{self._hash.name}:{self._hash.hexdigest()}"


class _Spending:
    """A tar that becomes a tree, which takes about as much of the disk."""

    def __init__(self, file: Any, spend: Spend) -> None:
        self._file = file
        self._spend = spend

    def read(self, size: int = -1) -> bytes:
        """Read; raises when there is nothing left to spend."""
        data: bytes = self._file.read(size)
        self._spend(len(data))
        return data


# %% Files for the time being
@contextmanager
def scratch(store: Store) -> Iterator[Path]:
    """A name for a file beside the store; the file goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix=".load-", dir=store.root) as name:
        yield Path(name) / "data"


@contextmanager
def temporary(store: Store, data: BinaryIO) -> Iterator[Path]:
    """``data`` as a file beside the store, for as long as the block lasts."""
    with scratch(store) as path:
        with open(path, "xb") as file:
            while piece := data.read(PIECE):
                store.spend(len(piece))
                file.write(piece)
        yield path
