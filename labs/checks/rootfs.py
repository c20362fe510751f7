"""Lab ``rootfs``: a mount namespace that is cut off, a new root, and what is hidden in it."""

import os
import tempfile
from pathlib import Path

from labs.bench import Bench, Box, command, expect, in_child, mounts

SCRATCH = Path(os.environ.get("MINIDOCK_LAB_SANDBOX", "/"))


# %% The new root and the old one
def pivoted(bench: Bench) -> None:
    """The container's root is the root of its mount namespace."""
    box = bench.box()
    look = f"test -e {SCRATCH}/bin/minidock && echo host || echo container"
    seen = command("nsenter", "-m", "-t", str(box.pid), "sh", "-c", look).out.strip()
    expect(
        seen == "container",
        "a process that enters the mount namespace to find itself in the container's root",
        "it finds the host's: a chroot changes one process, pivot_root(2) the namespace",
    )
    inode = os.stat(f"/proc/{box.pid}/root").st_ino
    wanted = os.stat(Path(os.environ["MINIDOCK_ROOT"]) / "containers" / box.id / "rootfs").st_ino
    expect(inode == wanted, f"inode {wanted} as the container's root", f"stat(2) says {inode}")


def old_root(bench: Bench) -> None:
    """Nothing of the old root is mounted in the container, and nothing of the container out here."""
    before = mounts()
    box = bench.box()
    left = [line[4] for line in box.mounts() if line[3] == "/" and "minidock-lab" in line]
    expect(
        not left,
        "no mount of the host in the container's mountinfo",
        f"the host's {SCRATCH} is still mounted there, at {', '.join(left)}: "
        "the old root was not let go of",
    )
    own = (os.environ["MINIDOCK_ROOT"], os.environ["MINIDOCK_RUN"])
    more = [line[4] for line in mounts() if line not in before and not line[4].startswith(own)]
    expect(
        not more,
        "the host's own mounts to be as before",
        f"the host now has {', '.join(more)}: the container's mounts have reached it",
    )


def plain(bench: Bench) -> None:
    """A directory that is no mount point can become the root."""
    before = [line[4] for line in mounts()]
    directory = tempfile.mkdtemp(dir=SCRATCH)
    Path(directory, "here").touch()
    found = in_child(lambda: _pivot_into(directory))
    expect(found == ["here"], "only the directory's own content in /", f"ls / says {found}")
    more = [line[4] for line in mounts() if line[4] not in before]
    expect(not more, "the host's list of mounts to be as before", f"it has {', '.join(more)}, too")


def _pivot_into(directory: str) -> list[str]:
    from minidock import rootfs
    from minidock.linux import syscalls

    syscalls.unshare(syscalls.Clone.NEWNS)
    rootfs.separate(directory)
    now = mounts()
    shared = [line[4] for line in now if any(word.startswith("shared:") for word in line)]
    expect(
        "/" not in shared,
        "/ not to be shared after separate()",
        "mountinfo says that / still is shared",
    )
    expect(
        not shared,
        "no mount to be shared after separate()",
        f"mountinfo says that {len(shared)} below / still are: it was not done recursively",
    )
    expect(
        directory in [line[4] for line in now],
        "the new root to be a mount point after separate()",
        f"mountinfo has no mount at {directory}",
    )
    rootfs.pivot(os.open(directory, os.O_PATH | os.O_DIRECTORY))
    return sorted(os.listdir("/"))


def slave(bench: Bench) -> None:
    """What the host mounts later arrives in a slave mount of the container; nothing goes back."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as name:
        Path(name, "later").mkdir()
        box = bench.box("-v", f"{name}:/shared:rslave")
        command("mount", "-t", "tmpfs", "later", f"{name}/later")
        try:
            there = [line[4] for line in box.mounts()]
        finally:
            command("umount", f"{name}/later")
            bench.clear()
    expect(
        "/shared/later" in there,
        "the host's new mount to appear below /shared, a slave",
        "mountinfo of the container does not have it: the mounts were made private",
    )


# %% What is hidden
def readonly(bench: Bench) -> None:
    """/proc/sys and its like can only be read."""
    from minidock.rootfs.hiding import READONLY_PATHS

    box = bench.box()
    for path in filter(os.path.exists, READONLY_PATHS):
        flags = _flags(box, path)
        expect(
            bool(flags & os.ST_RDONLY),
            f"{path} to be read-only",
            "statvfs(2) says that it can be written: the mount over it was not made read-only",
        )
        lost = [
            name for name in ("NOSUID", "NODEV", "NOEXEC") if not flags & getattr(os, f"ST_{name}")
        ]
        expect(not lost, f"{path} to keep nosuid, nodev, noexec", f"it has lost {' '.join(lost)}")


def _flags(box: Box, path: str) -> int:
    return os.statvfs(f"/proc/{box.pid}/root{path}").f_flag


def masked(bench: Bench) -> None:
    """/proc/kcore and its like tell nothing."""
    from minidock.rootfs.hiding import MASKED_PATHS

    box = bench.box()
    for path in filter(os.path.exists, MASKED_PATHS):
        there = f"/proc/{box.pid}/root{path}"
        if os.path.isdir(there):
            names = os.listdir(there)
            expect(not names, f"{path} to be an empty directory", f"ls says {' '.join(names[:5])}")
            continue
        with open(there, "rb") as file:
            data = file.read(16)
        expect(not data, f"{path} to be empty", f"read(2) says {data!r}")
