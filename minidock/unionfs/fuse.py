"""fuse-overlayfs: a union that a program makes.

FUSE lets a program be a file system: the kernel turns each open(2) or
read(2) below the mount into a message on ``/dev/fuse``, and the program
answers. This one answers as overlayfs would, and keeps its notes on disk in
the same form. It is for hosts where overlayfs may not be mounted: old
kernels, users without root, a root file system that cannot be an upper layer.

The traps. The program lives as long as the mount, not as long as the daemon:
it goes into the background and leaves our session. It leaves marks beside
the kernel's own: files that begin with ``.wh.``, an attribute that says what
a file was copied from. It must be told to let devices and setuid programs
be (``dev``, ``suid``), and to write at once what is written
(``writeback=0``), as ``diff`` looks at the upper directory behind its back.

**Interface:** :class:`FuseOverlayDriver`.

**See:** fuse(4), fuse-overlayfs(1); moby
``daemon/graphdriver/fuse-overlayfs``.
"""

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from minidock.errors import NotSupported, Unavailable
from minidock.unionfs.overlay import OverlayDriver
from minidock.unionfs.pack import walk

PROGRAM, ORIGIN = "fuse-overlayfs", "user.fuseoverlayfs.origin"


# %% The driver
class FuseOverlayDriver(OverlayDriver):
    """As overlay, but for who does the mount."""

    name = "fuse-overlayfs"

    @classmethod
    def lacks(cls, root: Path) -> str:
        """The program, and the kernel's side of it."""
        if not os.path.exists("/dev/fuse"):
            return "there is no /dev/fuse (modprobe fuse)"
        if shutil.which(PROGRAM) is None:
            return f"{PROGRAM} is not installed (apt-get install {PROGRAM})"
        return ""

    def _mount_here(self, layers: Path, target: Path, options: str) -> None:
        """The program looks for the layers from where it is started."""
        if layers != self.root:
            raise NotSupported(
                f"{PROGRAM} cannot translate owners: --userns-remap needs another driver"
            )
        _forget_origins(target.parent / "upper")
        done = subprocess.run(
            [PROGRAM, "-o", f"dev,suid,writeback=0,{options}", str(target)],
            cwd=layers,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise Unavailable(f"{PROGRAM} {target}: {words[0]}")


def _forget_origins(upper: Path) -> None:
    """Take away the notes of what each file was copied from.

    The program (1.10 at least) believes them at the next mount so far that a
    file of a layer which has two names there is shown in place of the changed
    copy of one of them: what was written would be lost.
    """
    for path, status in walk(upper):
        if stat.S_ISREG(status.st_mode):
            with suppress(OSError):
                os.removexattr(path, ORIGIN, follow_symlinks=False)
