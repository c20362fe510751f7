"""Where MiniDock keeps things.

Two directories, as the Filesystem Hierarchy Standard wants them: what must
survive a reboot lies under ``root`` (images, layers, containers), what must
not lies under ``run`` (sockets, network namespaces). Both can be moved, so
that two engines, or a test, can live side by side on one host.

**Interface:** :class:`Paths`, :func:`write_json`, :func:`read_json`, :func:`remove_tree`.

**See:** hier(7), rename(2).
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any


# %% The directories
@dataclass(frozen=True, slots=True)
class Paths:
    """All the places MiniDock writes to, from two roots."""

    root: Path = Path("/var/lib/minidock")
    run: Path = Path("/run/minidock")

    @classmethod
    def from_environment(cls) -> "Paths":
        """``$MINIDOCK_ROOT`` and ``$MINIDOCK_RUN``, or the defaults."""
        standard = cls()
        return cls(
            Path(os.environ.get("MINIDOCK_ROOT", standard.root)),
            Path(os.environ.get("MINIDOCK_RUN", standard.run)),
        )

    @property
    def socket(self) -> Path:
        """The unix socket on which the daemon speaks the Engine API."""
        return self.run / "minidock.sock"

    @property
    def images(self) -> Path:
        """The image store: an OCI image layout."""
        return self.root / "images"

    @property
    def layers(self) -> Path:
        """Extracted layers, one directory per storage driver."""
        return self.root / "layers"

    @property
    def containers(self) -> Path:
        """One directory per container; it holds the OCI bundle."""
        return self.root / "containers"

    @property
    def networks(self) -> Path:
        """Networks and the addresses they have given out."""
        return self.root / "networks"

    @property
    def netns(self) -> Path:
        """Network namespaces, each kept alive by a bind mount on a file here."""
        return self.run / "netns"


# %% State that survives a crash
def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace the file at ``path`` by ``value`` as JSON, all or nothing.

    A reader sees the old file or the new one, never half of one: the new
    content is written beside it, flushed to disk, and renamed over it. What
    means nothing after a power failure (that a process runs) need not be
    ``durable``, and saves the flush.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.tmp")
    try:
        with open(temporary, "w") as file:
            json.dump(value, file, indent=1)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """The JSON value in the file at ``path``.

    Raises :class:`FileNotFoundError`, and :class:`ValueError` for a damaged file.
    """
    with open(path, "rb") as file:
        return json.load(file)


# %% What must go
def remove_tree(place: Path) -> None:
    """Remove ``place`` with all that is in it; whatever cannot be removed stays.

    A tree may be deeper than Python's calls may nest, and than there are descriptors, as whoever is
    in a container can make it. rm(1) knows how to go about that.
    """
    import shutil
    import subprocess

    with suppress(RecursionError):
        shutil.rmtree(place, ignore_errors=True)
    if os.path.lexists(place):
        subprocess.run(["rm", "-rf", "--one-file-system", place], check=False, capture_output=True)
