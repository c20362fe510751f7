"""Hints for the lab ``unionfs``."""

import os
from collections.abc import Iterator
from pathlib import Path

from labs.bench import Bench, Wrong, mounts


def _options() -> Iterator[str]:
    """The overlay that is mounted now, as the kernel tells it."""
    for line in mounts():
        if "overlay" in line[-3:] and line[4].startswith(os.environ["MINIDOCK_ROOT"]):
            yield f"Of {line[4]} mountinfo says: {line[-1][:300]}"
            return


# %% mount()
def order(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The order."""
    yield "lowerdir= is a stack that is written from the top: TOP:…:BOTTOM."
    yield from _options()
    yield 'lower = ":".join(self.directory(chain) for chain in reversed(self._showing(chains))).'


def own_layer(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The upper directory."""
    yield "Without upperdir= an overlay is read-only; workdir= must be empty and beside upperdir."
    yield "changes() and pack() look for what was written in container_dir/upper."
    yield from _options()


def many(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The page."""
    root = Path(os.environ["MINIDOCK_ROOT"], "layers", "overlay")
    yield f"Eighty names like {root}/0123456789abcdef have {80 * (len(str(root)) + 18)} bytes; a page has 4096."
    yield "os.chdir(self.root) makes them short, but in a thread that has done unshare(Clone.FS) before."


def undone(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The undo."""
    yield "with steps.step(…) as step: …; step.undo(self.unmount, container_dir)."


# %% Whiteouts
def deleted(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The device 0:0."""
    yield "In a tar a whiteout is called .wh.NAME; for the kernel it is called NAME and is a device 0:0."
    yield "os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)."
    yield "If there is a file already: contextlib.suppress(FileExistsError)."


def opaque(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The attribute."""
    yield "overlayfs reads trusted.overlay.opaque (only root may write it); the value is the letter y."
    yield 'os.setxattr(directory, OPAQUE_ATTRIBUTE, b"y").'
