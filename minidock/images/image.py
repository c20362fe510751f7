"""One image, and how it looks to a client.

Inside there are frozen values; outside there is the Engine API's JSON,
which has more properties than anybody uses, and they must all be there.

The trap: the *configuration* of an image is named by the digest of its
bytes, and holds things that we know nothing about. So its bytes are stored
as they came and never written anew, and what is shown comes from them
(``document``), not from the part of them that we understand (``config``).

**Interface:** :class:`Image`, :func:`container_config`, :func:`summary`,
:func:`inspect`, :func:`history`.

**See:** Engine API, ``ImageInspect``, ``ImageSummary``, ``ImageHistory``;
OCI image specification, config.md.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from minidock.errors import InvalidParameter
from minidock.spec import reference
from minidock.spec.image import ImageConfig, Manifest
from minidock.spec.timestamp import ZERO, parse_time

Body = dict[str, Any]


# %% An image
@dataclass(frozen=True, slots=True)
class Image:
    """``id`` is the digest of the configuration; ``references`` are full names.

    ``config`` is what we understand of ``document``, the configuration as it
    came. ``sizes`` are those of the extracted layers, the lowest first.
    """

    id: str
    references: tuple[str, ...]
    manifest_digest: str
    manifest: Manifest
    config: ImageConfig
    document: Body
    chains: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """The bytes of all files in all layers."""
        return sum(self.sizes)

    @property
    def tags(self) -> list[str]:
        """The names as people write them."""
        return [reference.parse(name).familiar for name in self.references if "@" not in name]

    @property
    def digests(self) -> list[str]:
        """Names by digest: what registries are known to call it by, after a pull or a push."""
        return sorted(reference.parse(name).familiar for name in self.references if "@" in name)

    @property
    def repositories(self) -> set[str]:
        """Its names without tags and digests."""
        return {reference.parse(name).name for name in self.references}

    @property
    def has_one_name(self) -> bool:
        """At most one tag, in one repository: nobody else will miss it."""
        return len(self.repositories) <= 1 and len(self.tags) <= 1

    def losing(self, name: str) -> set[str]:
        """What goes with ``name``: by the last tag of a repository all that it is called there."""
        wanted = reference.parse(name)
        full = f"{wanted.name}@{wanted.digest}" if wanted.digest else str(wanted)
        there = [one for one in self.references if reference.parse(one).name == wanted.name]
        others = [one for one in there if "@" not in one and one != full]
        return {full} if others or wanted.digest else {full, *there}

    @property
    def created(self) -> int:
        """Nanoseconds since 1970; 0 if the configuration does not say."""
        return _moment(self.config.created)


def _moment(text: Any) -> int:
    """A stranger wrote it: one that is no time must not keep the others from being shown."""
    with suppress(InvalidParameter):
        return parse_time(str(text or ZERO))
    return 0


# %% The short form: docker images
def summary(image: Image, parent: str = "", shared: int = -1, containers: int = -1) -> Body:
    """The API's ``ImageSummary``; -1 means that nobody asked for that number."""
    return {
        "Id": image.id,
        "ParentId": parent,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Created": image.created // 10**9,
        "Size": image.size,
        "SharedSize": shared,
        "Containers": containers,
        "Labels": image.config.config.labels or None,
    }


# %% What its containers run
ALWAYS: Body = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False,
    "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None,
    "Cmd": None, "Image": "", "Volumes": None, "WorkingDir": "", "Entrypoint": None,
    "OnBuild": None, "Labels": None,
}  # fmt: skip

IF_SET = (
    "ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal",
    "StopTimeout", "Shell",
)  # fmt: skip


def container_config(image: Image) -> Body:
    """The API's ``ContainerConfig``: as the configuration has it, and what else must be there."""
    run = image.document.get("config") or {}
    return {
        **{name: run.get(name, usual) for name, usual in ALWAYS.items()},
        **{name: run[name] for name in IF_SET if run.get(name)},
    }


# %% The long form: docker image inspect
def inspect(image: Image, driver: str, data: Mapping[str, str] | None, parent: str = "") -> Body:
    """The API's ``ImageInspect``; ``driver`` and ``data`` say where its layers lie."""
    known, diff_ids = image.document, image.config.rootfs.diff_ids
    return {
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": parent,
        "Comment": known.get("comment") or (image.config.history or ({},))[-1].get("comment", ""),
        "Created": image.config.created or ZERO,
        "DockerVersion": known.get("docker_version", ""),
        "Author": image.config.author,
        "Config": container_config(image),
        "Architecture": image.config.architecture,
        **({"Variant": known["variant"]} if known.get("variant") else {}),
        "Os": image.config.os,
        **({"OsVersion": known["os.version"]} if known.get("os.version") else {}),
        "Size": image.size,
        "GraphDriver": {"Name": driver, "Data": data},
        "RootFS": {"Type": "layers", **({"Layers": list(diff_ids)} if diff_ids else {})},
        "Metadata": {"LastTagTime": ZERO},
    }


# %% How it came about: docker history
NOBODY: Mapping[int, Image] = {}


def history(image: Image, ancestors: Mapping[int, Image] = NOBODY) -> Sequence[Body]:
    """The API's ``ImageHistory``, the newest first.

    The configuration says what was done, and whether a layer came of it. An
    id have only those of these images that are here: the last one, and such
    ``ancestors`` (by their place in the history) as there are.
    """
    sizes = iter(image.sizes)
    entries = [
        {
            "Id": "<missing>",
            "Created": _moment(one.get("created")) // 10**9,
            "CreatedBy": one.get("created_by", ""),
            "Tags": None,
            "Size": 0 if one.get("empty_layer") else next(sizes, 0),
            "Comment": one.get("comment", ""),
        }
        for one in image.config.history
    ]
    for place, known in {**ancestors, len(entries) - 1: image}.items():
        if entries:
            entries[place] |= {"Id": known.id, "Tags": known.tags or None}
    return entries[::-1]
