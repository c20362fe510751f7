"""Platforms: which of an index's images is for this machine.

A tag may name an *index*: one image for each kind of machine. Each entry
says for what it is: an operating system, an architecture in Go's words, and
for some architectures a variant (``arm`` is ``v5`` to ``v8``).

The traps. People write ``aarch64`` and ``x86_64``, images ``arm64`` and
``amd64``. A machine runs what is older than itself (an ``arm/v7`` runs
``v6``), so the best match is not always the equal one. And an index has
entries that are no images at all (attestations, for ``unknown/unknown``).

**Interface:** :class:`Platform`, :func:`parse`, :func:`here`, :func:`choose`.

**See:** OCI image specification, image-index.md ("platform"); containerd
``platforms``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from minidock.errors import InvalidParameter, NotFound
from minidock.spec.image import Descriptor, architecture

# %% A platform
ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armhf": "arm",
    "armel": "arm",
}
VARIANTS = {"arm64": "v8", "armhf": "v7", "armel": "v6", "arm": "v7"}


@dataclass(frozen=True, slots=True)
class Platform:
    """``linux/arm/v7``."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        """As people write it."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse(text: str) -> Platform:
    """``OS[/ARCHITECTURE[/VARIANT]]`` or an architecture. Raises in containerd's words."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(
        part.replace("-", "_").isidentifier() or part == "386" for part in parts
    ):
        raise InvalidParameter(
            f'"{text}": cannot parse platform specifier (want OS[/ARCHITECTURE[/VARIANT]])'
        )
    if len(parts) == 1:
        parts = [parts[0], architecture()] if parts[0] == "linux" else ["linux", parts[0]]
    os_, machine, variant = (*parts, "")[:3]
    default = VARIANTS.get(machine, "") if machine in ("armhf", "armel") else ""
    return Platform(os_, ALIASES.get(machine, machine), variant or default)


def here() -> Platform:
    """This machine."""
    return Platform("linux", architecture())


# %% The best entry
def choose(entries: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """The entry of an index that suits ``wanted`` best. Raises in Docker's words."""
    ranked = [(_rank(entry, wanted), entry) for entry in entries]
    suitable = [(rank, entry) for rank, entry in ranked if rank is not None]
    if not suitable:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    return max(suitable, key=lambda pair: pair[0])[1]


def _rank(entry: Descriptor, wanted: Platform) -> int | None:
    """How well it suits; None: not at all. Among equals the first one wins."""
    if entry.platform is None:
        return 0
    os_ = str(entry.platform.get("os", "linux"))
    machine = str(entry.platform.get("architecture", ""))
    if (os_, ALIASES.get(machine, machine)) != (wanted.os, wanted.architecture):
        return None
    have = str(entry.platform.get("variant", ""))
    want = wanted.variant or VARIANTS.get(wanted.architecture, "")
    if have == want or not have:
        return 100 if have == want else 50
    # v6 runs on v7, not the other way round; a variant of amd64 (v3) is for newer machines.
    return int(have[1:]) if have[1:].isdigit() and have < want else None
