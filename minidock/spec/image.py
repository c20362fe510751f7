"""Images on paper: descriptors, manifests, configurations.

A *descriptor* names a blob by its digest and says what it is. A *manifest*
is one image for one machine: a descriptor of its configuration and one for
each layer. The *configuration* says how to run it, and by ``diff_ids`` which
layers, uncompressed, it is made of. Everything is named by the digest of
its bytes, so a name cannot lie.

The trap: a layer has two digests, that of the compressed blob (in the
manifest) and that of the tar inside it (the ``diff_id``), and a stack of
layers has a third, its *chain id*, which says what lies below, too.

**Interface:** :class:`Descriptor`, :class:`Manifest`, :class:`ImageConfig`,
:func:`as_oci`, :func:`digest_of`, :func:`encode_manifest`, :func:`encode_config`, :func:`chain_ids`, :func:`check_digest`.

**See:** OCI image specification: descriptor.md, manifest.md, config.md
("Layer ChainID").
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from minidock.errors import InvalidParameter
from minidock.spec.codec import encode, named

# %% Media types
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

INDEXES = {INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"}
MANIFESTS = {MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"}

DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"  # how Docker writes a whole name into a layout


# %% Digests
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def check_digest(text: str) -> str:
    """``text`` if it is a digest, else :class:`InvalidParameter`.

    Digests become names of files and directories, and come from strangers:
    one that reads ``sha256:/etc`` must go no further than this.
    """
    if not _DIGEST.fullmatch(text):
        raise InvalidParameter(
            f"invalid digest {text!r}: expected sha256: and 64 hex digits (or sha512: and 128)"
        )
    return text


def digest_of(data: bytes) -> str:
    """The name of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# %% Descriptors and manifests
@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is, its digest, its size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    platform: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse a digest that is none."""
        check_digest(self.digest)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its configuration, its layers from the lowest up."""

    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...] = ()
    media_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict)


def as_oci(layer: Descriptor) -> Descriptor:
    """The same layer under OCI's name for its kind: ``umoci`` knows no other."""
    if not layer.media_type.startswith(DOCKER_LAYER):
        return layer
    suffix = layer.media_type.removeprefix(DOCKER_LAYER).replace(".", "+")
    return replace(layer, media_type=LAYER + suffix)


# %% The configuration
@dataclass(frozen=True, slots=True)
class Execution:
    """How a container of this image runs unless it is told otherwise."""

    user: str = named("User", default="")
    exposed_ports: dict[str, Any] = named("ExposedPorts", default_factory=dict)
    env: tuple[str, ...] = named("Env", default=())
    entrypoint: tuple[str, ...] = named("Entrypoint", default=())
    cmd: tuple[str, ...] = named("Cmd", default=())
    volumes: dict[str, Any] = named("Volumes", default_factory=dict)
    working_dir: str = named("WorkingDir", default="")
    labels: dict[str, str] = named("Labels", default_factory=dict)
    stop_signal: str = named("StopSignal", default="")
    stop_timeout: int | None = named("StopTimeout", default=None)
    healthcheck: dict[str, Any] | None = named("Healthcheck", default=None)
    shell: tuple[str, ...] = named("Shell", default=())
    on_build: tuple[str, ...] = named("OnBuild", default=())
    args_escaped: bool = named("ArgsEscaped", default=False)


@dataclass(frozen=True, slots=True)
class RootFS:
    """The digests of the uncompressed layers, the lowest first."""

    type: str = "layers"
    diff_ids: tuple[str, ...] = named("diff_ids", default=())

    def __post_init__(self) -> None:
        """Refuse a digest that is none."""
        for diff_id in self.diff_ids:
            check_digest(diff_id)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The configuration of an image; its digest is the image's id."""

    architecture: str = ""
    os: str = "linux"
    created: str = ""
    author: str = ""
    config: Execution = field(default_factory=Execution)
    rootfs: RootFS = field(default_factory=RootFS)
    history: tuple[dict[str, Any], ...] = ()


# %% Written down
def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as JSON; ``layers`` must be there even if there are none."""
    return json.dumps({"layers": [], **encode(manifest)}).encode()


def encode_config(config: ImageConfig) -> bytes:
    """A *new* configuration as JSON. One that came from elsewhere is kept by its bytes instead."""
    rootfs = {"type": "layers", "diff_ids": list(config.rootfs.diff_ids)}
    return json.dumps({"os": config.os, **encode(config), "rootfs": rootfs}).encode()


# %% This machine, as images call it
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    """Go's name for the machine we run on, which images use."""
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, machine)


# %% Names of stacks
def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """For each layer the name of the stack that it tops."""
    chains: list[str] = []
    for diff_id in diff_ids:
        if chains:
            both = f"{chains[-1]} {diff_id}".encode()
            chains.append("sha256:" + hashlib.sha256(both).hexdigest())
        else:
            chains.append(diff_id)
    return chains
