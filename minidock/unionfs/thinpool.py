"""Thin provisioning: block devices that share their blocks.

The device mapper makes block devices out of others. Its target
``thin-pool`` takes two, one for data and one for notes, and out of the pool
come any number of *thin* devices, each as large as one likes, which have
blocks only where something was written. A *snapshot* is another thin device
that begins with the same blocks.

The pool lies in two sparse files, seen as block devices by way of loop
devices. That is slow and was never meant for more than trying it out; it is
what Docker did when nothing else was given (``loop-lvm``).

The traps. A device that is in use must be suspended while it is copied, or
the copy is that of a moment that never was. A loop device is let go of as
soon as the pool has it (the kernel then keeps it until its last user goes),
so that none is left over if we are killed. And a device may still be in
use when it is to go, by a process that is just ending: so it is removed
*deferred*, and such a removal is called off when the device is wanted again.

**Interface:** :class:`ThinPool`, :func:`missing`.

**See:** dmsetup(8), losetup(8); Linux
Documentation/admin-guide/device-mapper/thin-provisioning.rst.
"""

import hashlib
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from minidock.errors import Unavailable

SECTOR = 512
BLOCK = 128  # sectors: 64 KiB, what one snapshot shares with another
LOW_WATER = 32768  # blocks

TOOLS = {"dmsetup": "dmsetup", "losetup": "mount", "mkfs.ext4": "e2fsprogs"}


# %% What the host must have
def missing() -> str:
    """What is lacking for thin provisioning; empty if nothing is."""
    for program, package in TOOLS.items():
        if shutil.which(program) is None:
            return f"{program} is not installed (apt-get install {package})"
    misc = Path("/proc/misc").read_text().split()
    if "device-mapper" not in misc and not _load("dm_mod"):
        return "this kernel has no device mapper (CONFIG_BLK_DEV_DM; modprobe dm_mod)"
    if "thin-pool" not in _run("dmsetup", "targets") and not _load("dm_thin_pool"):
        return "this kernel has no thin provisioning (CONFIG_DM_THIN_PROVISIONING)"
    return ""


def _load(module: str) -> bool:
    with suppress(OSError):
        return (
            subprocess.run(["modprobe", module], capture_output=True, check=False).returncode == 0
        )
    return False


def _run(*command: str) -> str:
    """What the program prints. Raises :class:`Unavailable` with its words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[:1] or [f"status {done.returncode}"]
        raise Unavailable(f"{' '.join(command)}: {words[0]}")
    return done.stdout.strip()


# %% The pool
class ThinPool:
    """The pool in ``directory``; a thin device is known by a number."""

    def __init__(self, directory: Path, data: int, metadata: int) -> None:
        self.directory = directory
        self._sizes = {"data": data, "metadata": metadata}
        digest = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
        self.name = f"minidock-{digest}"

    def open(self) -> None:
        """Make the pool, or take up the one that is there."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if self._exists(self.name):
            return
        loops = [self._loop(name) for name in ("metadata", "data")]
        try:
            length = int(_run("blockdev", "--getsz", loops[1]))
            table = f"0 {length} thin-pool {loops[0]} {loops[1]} {BLOCK} {LOW_WATER}"
            _run("dmsetup", "create", self.name, "--table", f"{table} 1 skip_block_zeroing")
        finally:
            for loop in loops:  # from now on they are there as long as the pool is
                _run("losetup", "--detach", loop)

    def _loop(self, name: str) -> str:
        """A block device that is a file, which is made if there is none."""
        path = self.directory / name
        if not path.exists():
            with open(path, "xb") as file:
                file.truncate(self._sizes[name])
        return _run("losetup", "--find", "--show", str(path))

    def close(self) -> None:
        """Take the pool out of the kernel; as long as it is in use, it stays."""
        with suppress(Unavailable):
            _run("dmsetup", "remove", self.name)

    def usage(self) -> tuple[int, int]:
        """Bytes of data in use, and how many there are."""
        found = re.search(
            r"thin-pool \d+ \d+/\d+ (\d+)/(\d+)", _run("dmsetup", "status", self.name)
        )
        used, total = (int(found[1]), int(found[2])) if found else (0, 0)
        return used * BLOCK * SECTOR, total * BLOCK * SECTOR

    # %% Thin devices
    def create(self, number: int) -> None:
        """A new one, empty."""
        self._message(f"create_thin {number}")

    def snapshot(self, number: int, origin: int) -> None:
        """A new one that begins as ``origin`` is now."""
        in_use = self._exists(self.device(origin))
        if in_use:
            _run("dmsetup", "suspend", self.device(origin))
        try:
            self._message(f"create_snap {number} {origin}")
        finally:
            if in_use:
                _run("dmsetup", "resume", self.device(origin))

    def delete(self, number: int) -> None:
        """Give its blocks back; it may be gone already."""
        self.deactivate(number)
        for _ in range(200):  # 20 seconds, Docker's patience with whoever looks into a mount's copy
            if not self._exists(self.device(number)):
                break
            time.sleep(0.1)
        try:
            self._message(f"delete {number}")
        except Unavailable as error:
            if "No data available" not in str(error):
                raise

    def device(self, number: int) -> str:
        """The name under which the device mapper shows it."""
        return f"{self.name}-{number}"

    def activate(self, number: int, size: int) -> str:
        """The path of the block device of ``size`` bytes."""
        name = self.device(number)
        if self._exists(name):
            with suppress(Unavailable):
                _run("dmsetup", "message", name, "0", "@cancel_deferred_remove")
        else:
            table = f"0 {size // SECTOR} thin /dev/mapper/{self.name} {number}"
            _run("dmsetup", "create", name, "--table", table)
        return f"/dev/mapper/{name}"

    def deactivate(self, number: int) -> None:
        """Let it go as soon as nobody uses it."""
        with suppress(Unavailable):
            _run("dmsetup", "remove", "--deferred", self.device(number))

    # %% Words to the kernel
    def _message(self, text: str) -> None:
        _run("dmsetup", "message", f"/dev/mapper/{self.name}", "0", text)

    def _exists(self, name: str) -> bool:
        done = subprocess.run(["dmsetup", "info", name], capture_output=True, check=False)
        return done.returncode == 0
