"""Leases: what is here on trust, because somebody is still fetching the rest.

An image gets its name when all of it is here. If the fetching is cut off,
by Ctrl-C or by ``kill -9``, its finished blobs and layers belong to no image,
and would be swept away. A *lease* says that they are wanted: it names all
blobs and layers of an image that is being fetched, is written before the
first of them, and is taken away when the image has its name. Blobs that are
half here lie beside it, each called by the digest that it shall have.

The trap: a lease that nobody comes back for would hold its things for ever.
So it ends after a day.

**Interface:** :class:`Leases`.

**See:** containerd, "Garbage Collection" (leases), ``content`` ("ingests").
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from minidock import steps
from minidock.paths import read_json, write_json
from minidock.spec.image import check_digest

LIFE = 24 * 3600.0  # seconds


# %% Leases
class Leases:
    """Notes in the directory ``root``, one for each image on its way, and partial blobs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o700, exist_ok=True)

    def _note(self, key: str) -> Path:
        return self.root / f"{check_digest(key).replace(':', '-')}.json"

    def partial(self, digest: str) -> Path:
        """Where the blob ``digest`` grows."""
        return self.root / f"{check_digest(digest).replace(':', '-')}.part"

    def take(self, key: str, blobs: Iterable[str], chains: Iterable[str]) -> None:
        """Hold the blobs and layers of the image whose manifest is ``key``, for a day."""
        note = {"until": time.time() + LIFE, "blobs": [*blobs], "chains": [*chains]}
        with steps.step("take a lease", call="rename(2)", chapter="registry", image=key[:19]):
            write_json(self._note(key), note)

    def give_back(self, key: str) -> None:
        """The image has its name, or nobody wants it any more."""
        self._note(key).unlink(missing_ok=True)

    def held(self) -> tuple[set[str], set[str]]:
        """The blobs and layers of all leases; what has run out is forgotten."""
        blobs: set[str] = set()
        chains: set[str] = set()
        for note in self._running():
            blobs |= set(note["blobs"])
            chains |= set(note["chains"])
        return blobs, chains

    def _running(self) -> Iterator[dict[str, Any]]:
        for path in self.root.glob("*.json"):
            with suppress(ValueError, KeyError, TypeError, FileNotFoundError):
                note = read_json(path)
                if note["until"] > time.time():
                    yield note
                    continue
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Forget partial blobs that nobody holds, and notes half written."""
        wanted = {self.partial(digest).name for digest in self.held()[0]}
        for path in self.root.iterdir():
            if path.suffix != ".json" and path.name not in wanted:
                path.unlink(missing_ok=True)
