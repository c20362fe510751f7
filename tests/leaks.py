"""What is left on the host: looked at before the tests and after.

**Interface:** :func:`look`, :func:`compare`.

A container engine that forgets a mount or a process does it quietly; a test
that passes does not notice. So the whole session is bracketed by a look at
everything an engine can leave behind.
"""

import os
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

Snapshot = dict[str, Counter[str]]


# %% Looking
def look() -> Snapshot:
    """Mounts, cgroups, devices, namespaces, firewall, processes, files: as bags of lines."""
    return {
        "mounts": Counter(_mounts()),
        "cgroups": Counter(_cgroups()),
        "network devices": Counter(_devices()),
        "network namespaces": Counter(_names("/run/netns")),
        "nftables": Counter(_output("nft", "list", "tables").splitlines()),
        "settings": Counter([f"ip_forward {_text('/proc/sys/net/ipv4/ip_forward')}"]),
        "iptables": Counter(_output("iptables", "-S").splitlines()),
        "loop devices": Counter(_loops()),
        "devices of the device mapper": Counter(_output("dmsetup", "ls").splitlines()),
        "processes": Counter(_processes()),
        "files": Counter(_files()),
    }


def compare(before: Snapshot, after: Snapshot) -> list[str]:
    """One line for everything that is there now and was not."""
    return [
        f"{kind}: {line}"
        for kind in after
        for line in sorted((after[kind] - before[kind]).elements())
    ]


# %% The kinds
def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [" ".join(line.split()[4:5]) for line in lines]


def _cgroups() -> list[str]:
    """Groups called minidock, in any tree; the empty group of that name itself may stay."""
    root = Path("/sys/fs/cgroup")
    found = [*root.glob("minidock/*"), *root.glob("*/minidock/*")]
    return [str(path) for path in found if path.is_dir()]


def _devices() -> list[str]:
    return [line.split(":")[1].strip() for line in _output("ip", "-o", "link").splitlines()]


def _loops() -> list[str]:
    """The files behind loop devices that tests have made."""
    lines = _output("losetup", "--list", "--noheadings", "--output", "BACK-FILE").splitlines()
    return [line for line in lines if line.startswith(tempfile.gettempdir())]


def _names(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


def _processes() -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
            name = status[status.index("(") + 1 : status.rindex(")")]
            arguments = (
                Path(f"/proc/{pid}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
            )
        except OSError:
            continue
        if status[status.rindex(")") + 2] == "Z" or int(pid) == os.getpid():
            continue
        if name.startswith(("minidock", "md ")) or "minidock daemon" in arguments:
            found.append(f"{pid} {name}: {arguments.strip()}")
    return found


def _files() -> list[str]:
    """In the places where engines and tests put things."""
    prefixes = ("md", "minidock", "tmp", "pytest")
    temporary = tempfile.gettempdir()
    found = [f"{temporary}/{name}" for name in _names(temporary) if name.startswith(prefixes[:2])]
    for place in ("/var/lib/minidock/containers", "/run/minidock/netns"):
        found += [f"{place}/{name}" for name in _names(place)]
    return found


def _text(path: str) -> str:
    return Path(path).read_text().strip()


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
