"""vfs: no union at all, but copies.

**Interface:** :class:`VfsDriver`.

Each layer is a whole tree: its parent's, copied, with the layer's changes
made. Each container is a copy again. It is slow and takes space, and it
works on every file system; it is what the others are measured against.

The trap: layers are read-only, so the copy of a layer may share its files
(hard links); a container writes, so its copy may not.

**See:** cp(1) ``--reflink``; moby ``daemon/graphdriver/vfs``.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from minidock import steps
from minidock.errors import Unavailable
from minidock.unionfs.whole import WholeTreeDriver


# %% Copying trees
def copy_tree(source: Path, target: Path, *how: str) -> None:
    """``cp -a``, which keeps all that tar keeps; ``how`` are further options."""
    done = subprocess.run(
        ["cp", "-a", *how, f"{source}/.", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Unavailable(f"copying {source}: {done.stderr.strip().splitlines()[0]}")


# %% The driver
class VfsDriver(WholeTreeDriver):
    """One directory per layer, holding the whole stack."""

    name = "vfs"

    def _prepare(self, new: Path, parent: str | None) -> None:
        new.mkdir(0o755)
        if parent is not None:
            copy_tree(self.root / self.directory(parent), new, "--link")

    def _copy(self, chains: Sequence[str], container_dir: Path) -> None:
        new = container_dir / "work"
        with steps.step("copy the layers", call="cp(1) --reflink=auto", chapter="unionfs"):
            self._discard(new)  # half a copy, of a daemon that was killed
            new.mkdir(mode=0o755)
            if chains:
                copy_tree(self.root / self.directory(chains[-1]), new, "--reflink=auto")
            os.rename(new, container_dir / "upper")
