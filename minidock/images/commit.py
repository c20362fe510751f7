"""Committing: a new image on top of another, or on nothing.

What an image is made of is written down in two small papers, the
configuration and the manifest. A new image takes over those of its base and
adds one line of history, at most one layer, and what has changed in how it
runs. ``docker commit`` and ``docker import`` are no more than that.

The traps. Nothing may be lost that we do not know of, so the base's paper is
copied and changed, not written anew from what we understand of it. Who has
changed no file gets no layer, only a line of history, which must say so
(``empty_layer``), or all lines above it would belong to the wrong layers.
And a manifest of Docker's kind becomes one of OCI's, the layers in it, too.

**Interface:** :class:`Note`, :func:`compose`, :func:`pack_layer`.

**See:** OCI image specification, config.md; moby ``image/image.go``
(NewChildImage), ``daemon/commit.go``.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from minidock import steps
from minidock.images.image import Image
from minidock.images.layers import scratch
from minidock.images.store import Blob, Store
from minidock.spec import image as oci
from minidock.spec.codec import encode
from minidock.spec.image import Descriptor, Execution, Manifest
from minidock.spec.platform import Platform
from minidock.spec.timestamp import now

Body = dict[str, Any]


# %% What the history will say
@dataclass(frozen=True, slots=True)
class Note:
    """Who made the image, by what command, and why."""

    created_by: str = ""
    author: str = ""
    comment: str = ""

    def entry(self, moment: str, empty: bool) -> Body:
        """The line of history; what is not said is left out."""
        words = {"created_by": self.created_by, "author": self.author, "comment": self.comment}
        said: Body = {name: text for name, text in words.items() if text}
        return {"created": moment, **said, **({"empty_layer": True} if empty else {})}


@dataclass(frozen=True, slots=True)
class NewLayer:
    """A layer that is in the store: its digest before compression, and its blob."""

    diff_id: str
    blob: Descriptor


# %% The two papers
def compose(
    store: Store,
    base: Image | None,
    layer: NewLayer | None,
    run: Execution,
    note: Note,
    on: Platform,
) -> tuple[Descriptor, str]:
    """Write configuration and manifest; returns the manifest, which has no name yet, and the id."""
    with steps.step("write the image", call="rename(2)", chapter="versions"):
        config = json.dumps(_configuration(base, layer, run, note, on)).encode()
        configured = Descriptor(oci.CONFIG, store.write(config), len(config))
        layers = tuple(map(oci.as_oci, base.manifest.layers)) if base else ()
        layers += (layer.blob,) if layer else ()
        text = oci.encode_manifest(Manifest(2, configured, layers, oci.MANIFEST))
        return Descriptor(oci.MANIFEST, store.write(text), len(text)), configured.digest


FROM_THE_BASE = ("architecture", "variant", "os", "os.version", "os.features")


def _configuration(
    base: Image | None, layer: NewLayer | None, run: Execution, note: Note, on: Platform
) -> Body:
    moment = now()
    machine: Body = {"architecture": on.architecture, "os": on.os}
    if on.variant:
        machine["variant"] = on.variant
    if base is not None:
        machine = {name: base.document[name] for name in FROM_THE_BASE if base.document.get(name)}
    diff_ids = [*(base.config.rootfs.diff_ids if base else ()), *([layer.diff_id] if layer else ())]
    history = [*(base.config.history if base else ()), note.entry(moment, layer is None)]
    return {
        "created": moment,
        **({"author": note.author} if note.author else {}),
        **machine,
        "config": encode(run),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    }


# %% The layer
@contextmanager
def pack_layer(store: Store, pack: Callable[[BinaryIO], object]) -> Iterator[tuple[Path, str]]:
    """What ``pack`` writes, as a file for as long as the block lasts, and its digest.

    The digest is empty if there is nothing in the archive but its end.
    """
    with scratch(store) as path:
        with (
            steps.step("pack the changes", call="tar", chapter="versions"),
            open(path, "xb") as file,
        ):
            blob = Blob(file, spend=store.spend)
            pack(cast(BinaryIO, blob))
        with open(path, "rb") as file:
            empty = not any(file.read(512))
        yield path, "" if empty else blob.digest
