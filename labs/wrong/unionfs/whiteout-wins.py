"""Removes what the layer itself has brought, to put the whiteout there."""

# check: deleted
# expect: a layer's own file to survive
import os
import stat
from contextlib import suppress


class OverlayWhiteouts:
    def remove(self, directory: int, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)
