"""Changes the directory without a thread of its own: the whole daemon moves."""

# check: many
# expect: the current directory belongs to all its threads
import os
from pathlib import Path

from minidock.linux import syscalls


class OverlayDriver:
    def _mount_here(self, target: Path, options: str) -> None:
        os.chdir(self.root)
        syscalls.mount("overlay", target, "overlay", 0, options)
