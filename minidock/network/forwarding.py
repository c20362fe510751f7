"""Forwarding: whether this host passes on packets that are not for itself.

It is one switch for the whole (network namespace of the) host, off on most.
Containers need it on. Docker switches it on and leaves it so; a host that
lends us its switch gets it back.

The trap: others need it, too. Who finds it off notes that down *for the
host*, not for himself, and only who takes down the last bridge puts it
back: another engine, or a virtual machine's network, has a bridge of its
own.

**Interface:** :func:`switch_on`, :func:`give_back`.

**See:** the kernel's ``ip-sysctl`` on ``ip_forward``; hier(7) on ``/run``,
which forgets at a reboot, like the switch.
"""

import os
import subprocess
from pathlib import Path

# %% The switch
_SWITCH = Path("/proc/sys/net/ipv4/ip_forward")


def _note() -> Path:
    """There is a switch for each network namespace, and so is a note."""
    return Path(f"/run/minidock.forwarding.{os.stat('/proc/thread-self/ns/net').st_ino}")


def switch_on() -> None:
    """Let packets through; note it down first if they were not."""
    if _SWITCH.read_text().strip() == "0":
        _note().write_text("0\n")
        _SWITCH.write_text("1")


def give_back() -> None:
    """Put the switch back to where we found it, if no bridge is left that could need it."""
    note = _note()
    if not note.exists() or _bridges():
        return
    _SWITCH.write_text("0")
    note.unlink()


def _bridges() -> list[str]:
    command = ["ip", "-o", "link", "show", "type", "bridge"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
