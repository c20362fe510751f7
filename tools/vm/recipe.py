"""What is in the box.

The box is a Debian 12 in which ``./setup`` has run: everything that needs a
network has happened when it is built, so that ``vagrant up`` needs none.

The trap is a cache that is stale: a box is kept under the digest of all
that went into it, this file and its neighbours included, so that a changed
recipe is another box and not an old one.

**Interface:** :data:`SUITE`, :data:`MACHINE`, :func:`packages`, :func:`digest`.
"""

import hashlib
import subprocess
from pathlib import Path

TREE = Path(__file__).parent.parent.parent
SUITE = "bookworm"
BOX = "minidock/debian12"
DISK_GIB = 10

# %% The packages
MACHINE = """
    systemd systemd-sysv udev dbus kmod initramfs-tools zstd
    ifupdown isc-dhcp-client openssh-server sudo rsync
""".split()

KERNEL = "linux-image-cloud-amd64"


def packages() -> list[str]:
    """Everything in the box that comes from Debian: the machine, and what ``./setup --lab`` wants."""
    asked = subprocess.run(
        [TREE / "setup", "--packages"], capture_output=True, text=True, check=True
    )
    return sorted({KERNEL, *MACHINE, *asked.stdout.split()})


# %% The name of a box
def digest() -> str:
    """Sixteen hexadecimal digits that change when the recipe does."""
    here = Path(__file__).parent
    inputs = [here / name for name in ("recipe.py", "box.py", "disk.py")]
    inputs += [TREE / "setup", TREE / "pyproject.toml", TREE / "minidock/images/bootstrap.py"]
    state = hashlib.sha256("\n".join(packages()).encode())
    for path in inputs:
        state.update(path.read_bytes())
    return state.hexdigest()[:16]
