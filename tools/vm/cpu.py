"""Whether KVM is of any use here: tried, not believed.

With KVM a virtual machine's instructions are run by the processor itself;
without it QEMU translates them (TCG: tiny code generator), ten to thirty
times slower. ``/dev/kvm`` says little: inside another virtual machine it may
be there, and hang, or be slower than no KVM at all.

So a machine with a disk of one sector is started both ways. Its program is
five instructions long: write 16 to port 0xf4, where QEMU has a device that
ends the emulator with (16 << 1) | 1. Until it gets there, the BIOS has run.

**Interface:** :func:`accelerator`, :func:`try_out`.

**See:** qemu(1), ``-accel``, ``-device isa-debug-exit``.
"""

import os
import platform
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

# mov dx, 0xf4;  mov al, 16;  out dx, al;  cli;  hlt
PROGRAM = bytes.fromhex("baf400 b010 ee fa f4")
SECTOR = PROGRAM.ljust(510, b"\0") + b"\x55\xaa"
ENDED = 16 << 1 | 1
PATIENCE = 5.0


# %% The trial
@cache
def accelerator() -> str:
    """``kvm`` where it works and is the faster one, else ``tcg``."""
    if platform.machine() != "x86_64" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    fast, slow = try_out("kvm"), try_out("tcg")
    return "kvm" if fast is not None and (slow is None or fast < slow) else "tcg"


def try_out(name: str) -> float | None:
    """The seconds that one sector takes under the accelerator ``name``; none: it did not get there."""
    with tempfile.TemporaryDirectory(prefix="minidock-cpu.") as folder:
        disk = Path(folder) / "disk"
        disk.write_bytes(SECTOR)
        command = ["qemu-system-x86_64", "-accel", name, "-machine", "pc", "-cpu", "max"]
        command += ["-m", "32", "-nodefaults", "-display", "none", "-no-reboot"]
        command += ["-drive", f"file={disk},format=raw,if=ide"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        began = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        except (subprocess.TimeoutExpired, FileNotFoundError):
            return None
        return time.monotonic() - began if done.returncode == ENDED else None
