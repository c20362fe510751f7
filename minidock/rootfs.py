"""The root file system: what a container believes the disk to be.

A new mount namespace is a copy of the old one, so a container begins by
seeing everything that the host has mounted. It then builds its own tree
below one directory, makes that directory the root with ``pivot_root(2)``,
and lets go of the old root; what is not mounted below it cannot be named
any more.

The traps. Mount events *propagate*: on a host whose ``/`` is shared, as
systemd makes it, an unmount in here would happen out there too, and
``pivot_root`` refuses (EINVAL), so the first act is to make everything a
slave. A *bind* mount takes no flags when it is made: read-only needs a
second call, and that call must repeat the flags that are already there: what
it leaves out is lifted (or, in a user namespace, refused with EPERM). And a mount's
destination is a path in a tree that a stranger made: every ``/`` of it may
be a link to the host, so the kernel resolves it (openat2) and we mount on
the open file.

**Interface:** :func:`separate`, :func:`mount_all`, :func:`make_devices`,
:func:`pivot`, :func:`hide`, :data:`MASKED_PATHS`, :data:`READONLY_PATHS`,
:data:`DEVICES`.

**See:** mount_namespaces(7), pivot_root(2), mount(2), openat2(2); OCI
runtime specification, config.md "Mounts" and config-linux.md "Default
Devices"; runc ``libcontainer/rootfs_linux.go``.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from minidock import steps
from minidock.errors import InvalidParameter, NotFound
from minidock.linux import syscalls
from minidock.linux.syscalls import Mount, Resolve, Umount
from minidock.spec import runtime as oci

# %% Words for flags: what mount -o calls them
FLAGS = {
    "ro": (Mount.RDONLY, True),
    "rw": (Mount.RDONLY, False),
    "nosuid": (Mount.NOSUID, True),
    "suid": (Mount.NOSUID, False),
    "nodev": (Mount.NODEV, True),
    "dev": (Mount.NODEV, False),
    "noexec": (Mount.NOEXEC, True),
    "exec": (Mount.NOEXEC, False),
    "sync": (Mount.SYNCHRONOUS, True),
    "async": (Mount.SYNCHRONOUS, False),
    "dirsync": (Mount.DIRSYNC, True),
    "remount": (Mount.REMOUNT, True),
    "bind": (Mount.BIND, True),
    "rbind": (Mount.BIND | Mount.REC, True),
    "noatime": (Mount.NOATIME, True),
    "atime": (Mount.NOATIME, False),
    "nodiratime": (Mount.NODIRATIME, True),
    "diratime": (Mount.NODIRATIME, False),
    "relatime": (Mount.RELATIME, True),
    "norelatime": (Mount.RELATIME, False),
    "strictatime": (Mount.STRICTATIME, True),
    "nostrictatime": (Mount.STRICTATIME, False),
    "nosymfollow": (Mount.NOSYMFOLLOW, True),
    "symfollow": (Mount.NOSYMFOLLOW, False),
    "defaults": (Mount(0), True),
}

PROPAGATION = {
    "private": Mount.PRIVATE,
    "rprivate": Mount.PRIVATE | Mount.REC,
    "slave": Mount.SLAVE,
    "rslave": Mount.SLAVE | Mount.REC,
    "shared": Mount.SHARED,
    "rshared": Mount.SHARED | Mount.REC,
    "unbindable": Mount.UNBINDABLE,
    "runbindable": Mount.UNBINDABLE | Mount.REC,
}


# %% Options of one mount, sorted by what the kernel does with them
class Options:
    """``flags`` for mount(2), ``propagation`` for a call of its own, ``data`` for the file system."""

    __slots__ = ("copy_up", "data", "flags", "propagation")

    def __init__(self, words: Sequence[str]) -> None:
        self.flags = Mount(0)
        self.propagation: list[Mount] = []
        self.copy_up = False
        rest = []
        for word in words:
            if word in FLAGS:
                flag, on = FLAGS[word]
                self.flags = self.flags | flag if on else self.flags & ~flag
            elif word in PROPAGATION:
                self.propagation.append(PROPAGATION[word])
            elif word == "tmpcopyup":
                self.copy_up = True
            else:
                rest.append(word)
        self.data = ",".join(rest)


# %% Cutting the new mount namespace off from the old one
def separate(rootfs: str, propagation: str = "") -> None:
    """Stop our mounts from reaching the host, and make ``rootfs`` a mount point.

    A slave still lets the host's mounts come in (a USB stick that appears
    below a bind mount), ``private`` and ``rprivate`` do not. Anything shared
    must wait until after the pivot, which refuses it. pivot_root(2) wants
    its new root to be a mount point, hence the bind mount of ``rootfs`` on
    itself.
    """
    if propagation and propagation not in PROPAGATION:
        raise InvalidParameter(f"linux.rootfsPropagation: unknown value {propagation!r}")
    kind = "rprivate" if propagation in ("private", "rprivate") else "rslave"
    with steps.step(
        "make all mounts slaves", call="mount(2) MS_REC|MS_SLAVE on /", chapter="rootfs", kind=kind
    ):
        syscalls.mount("", "/", flags=PROPAGATION[kind])
    with steps.step(
        "make the root file system a mount point",
        call="mount(2) MS_BIND",
        chapter="rootfs",
        rootfs=rootfs,
    ):
        syscalls.mount(rootfs, rootfs, flags=Mount.BIND | Mount.REC)
        syscalls.mount("", rootfs, flags=Mount.PRIVATE)


# %% A path in a stranger's tree
@contextmanager
def inside(rootfs: int, path: str, flags: int = os.O_PATH) -> Iterator[str]:
    """``path`` of the container as a path for us: ``/proc/self/fd/N``, opened with the root as its root.

    A link in it is followed as the container would follow it; none leads out.
    """
    fd = syscalls.openat2(rootfs, path.lstrip("/") or ".", flags, resolve=Resolve.IN_ROOT)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def make_mount_point(rootfs: int, path: str, directory: bool) -> None:
    """Make ``path`` in the container if it is missing: a directory, or an empty file."""
    parent, _, name = path.strip("/").rpartition("/")
    if not name:
        return
    try:
        with inside(rootfs, path):
            return
    except FileNotFoundError:
        pass
    if parent:
        make_mount_point(rootfs, parent, directory=True)
    with inside(rootfs, parent) as place:
        where = f"{place}/{name}"
        if directory:
            os.mkdir(where, 0o755)
        else:
            os.close(os.open(where, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))


# %% Mounting what the configuration lists, in its order
def mount_all(rootfs: int, mounts: Sequence[oci.Mount], in_user_namespace: bool = False) -> None:
    """Make all ``mounts`` of the configuration below the directory ``rootfs``."""
    for entry in mounts:
        with steps.step(
            f"mount {entry.destination}",
            call=f"mount(2) {entry.type or 'bind'}",
            chapter="rootfs",
            source=entry.source,
            options=",".join(entry.options),
        ):
            _mount(rootfs, entry, Options(entry.options), in_user_namespace)


def _mount(rootfs: int, entry: oci.Mount, options: Options, in_user_namespace: bool) -> None:
    if entry.type == "cgroup":
        _mount_cgroups(rootfs, entry, options)
    elif options.flags & Mount.BIND or entry.type == "bind":
        _bind(rootfs, entry, options)
    elif in_user_namespace and entry.type in ("sysfs", "mqueue"):
        _mount_or_bind(rootfs, entry, options)
    else:
        _mount_new(rootfs, entry, options)
    for propagation in options.propagation:
        with inside(rootfs, entry.destination) as target:
            syscalls.mount("", target, flags=propagation)


def _mount_new(rootfs: int, entry: oci.Mount, options: Options) -> None:
    make_mount_point(rootfs, entry.destination, directory=True)
    with inside(rootfs, entry.destination) as target:
        data = options.data
        if entry.type == "tmpfs" and "mode=" not in data:
            data = ",".join(filter(None, [data, f"mode={stat.S_IMODE(os.stat(target).st_mode):o}"]))
        source = entry.source or entry.type
        copy = _contents(target) if options.copy_up else None
        syscalls.mount(source, target, entry.type, options.flags, data)
    if copy:
        with inside(rootfs, entry.destination) as target:
            _restore(target, copy)


def _mount_or_bind(rootfs: int, entry: oci.Mount, options: Options) -> None:
    """sysfs belongs to the network namespace: who does not own that one may only borrow the host's."""
    try:
        _mount_new(rootfs, entry, options)
    except PermissionError:
        source = {"sysfs": "/sys", "mqueue": "/dev/mqueue"}[entry.type]
        with inside(rootfs, entry.destination) as target:
            syscalls.mount(source, target, flags=Mount.BIND | Mount.REC)


# %% Bind mounts
def _bind(rootfs: int, entry: oci.Mount, options: Options) -> None:
    if not os.path.exists(entry.source):
        raise NotFound(f"bind source path does not exist: {entry.source}")
    make_mount_point(rootfs, entry.destination, directory=os.path.isdir(entry.source))
    recursive = options.flags & Mount.REC
    with inside(rootfs, entry.destination) as target:
        syscalls.mount(entry.source, target, flags=Mount.BIND | recursive)
    restrictions = options.flags & ~(Mount.BIND | Mount.REC)
    if restrictions:
        with inside(rootfs, entry.destination) as target:
            remount(target, restrictions)


_KEPT = {
    os.ST_RDONLY: Mount.RDONLY,
    os.ST_NOSUID: Mount.NOSUID,
    os.ST_NODEV: Mount.NODEV,
    os.ST_NOEXEC: Mount.NOEXEC,
    os.ST_NOATIME: Mount.NOATIME,
    os.ST_NODIRATIME: Mount.NODIRATIME,
    os.ST_RELATIME: Mount.RELATIME,
}


def remount(target: str, restrictions: Mount) -> None:
    """Give the bind mount at ``target`` more flags, and repeat those it has."""
    now = os.statvfs(target).f_flag
    for seen, flag in _KEPT.items():
        if now & seen:
            restrictions |= flag
    syscalls.mount("", target, flags=Mount.BIND | Mount.REMOUNT | restrictions)


# %% The cgroup tree, as the container may see it
def _mount_cgroups(rootfs: int, entry: oci.Mount, options: Options) -> None:
    """Version 2 is one file system; version 1 is one per controller, below a tmpfs.

    Both show the container's own cgroup as the root, because the process is
    in a cgroup namespace by now.
    """
    trees = _host_cgroup_trees()
    if [name for name, _, _ in trees] == [""]:
        _mount_new(
            rootfs,
            oci.Mount(entry.destination, "cgroup2", "cgroup", entry.options),
            options,
        )
        return
    frame = Options(["nosuid", "noexec", "nodev", "mode=755"])
    _mount_new(rootfs, oci.Mount(entry.destination, "tmpfs", "tmpfs"), frame)
    for name, kind, controllers in trees:
        where = f"{entry.destination}/{name}"
        _mount_new(
            rootfs,
            oci.Mount(where, kind, "cgroup"),
            Options([*entry.options, *controllers]),
        )
        for alias in controllers[0].split(",") if controllers else ():
            _link(rootfs, f"{entry.destination}/{alias}", name)
    if options.flags & Mount.RDONLY:
        with inside(rootfs, entry.destination) as target:
            remount(target, Mount.RDONLY | Mount.NOSUID | Mount.NODEV | Mount.NOEXEC)


def _host_cgroup_trees() -> list[tuple[str, str, list[str]]]:
    """Name below /sys/fs/cgroup, type and controller option of each tree the host has mounted."""
    trees = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()[:3]
            where = left.split()[4]
            if kind == "cgroup2" and where == "/sys/fs/cgroup":
                return [("", kind, [])]
            if where.startswith("/sys/fs/cgroup/") and kind in ("cgroup", "cgroup2"):
                words = [w for w in options.split(",") if kind == "cgroup" and w not in FLAGS]
                wanted = [w for w in words if "=" not in w or w.startswith("name=")]
                trees.append((where[15:], kind, [",".join(wanted)] if wanted else []))
    return trees


def _link(rootfs: int, path: str, target: str) -> None:
    name = os.path.basename(path)
    if name != target and "=" not in name:
        with inside(rootfs, os.path.dirname(path)) as directory:
            os.symlink(target, f"{directory}/{name}")


# %% What a tmpfs covers, when asked to keep it
def _contents(directory: str) -> bytes:
    """All below ``directory`` as a tar archive in memory (``tmpcopyup``: meant for small trees)."""
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in sorted(os.listdir(directory)):
            archive.add(f"{directory}/{name}", arcname=name)
    return buffer.getvalue()


def _restore(directory: str, archive: bytes) -> None:
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        source.extractall(directory, numeric_owner=True)


# %% Devices
DEVICES = (
    oci.Device("c", "/dev/null", 1, 3, 0o666),
    oci.Device("c", "/dev/zero", 1, 5, 0o666),
    oci.Device("c", "/dev/full", 1, 7, 0o666),
    oci.Device("c", "/dev/random", 1, 8, 0o666),
    oci.Device("c", "/dev/urandom", 1, 9, 0o666),
    oci.Device("c", "/dev/tty", 5, 0, 0o666),
)

LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}

_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def make_devices(rootfs: int, more: Sequence[oci.Device], in_user_namespace: bool = False) -> None:
    """The devices every program expects, those of the configuration, and the usual links.

    In a user namespace mknod(2) is refused, so the host's nodes are bind mounted.
    """
    chosen = {device.path: device for device in (*DEVICES, *more)}
    with steps.step(
        "make the device nodes",
        call="mknod(2)",
        chapter="rootfs",
        devices=" ".join(chosen),
    ):
        for device in chosen.values():
            if in_user_namespace:
                _bind(
                    rootfs,
                    oci.Mount(device.path, "bind", device.path),
                    Options(["bind"]),
                )
            else:
                _make_device(rootfs, device)
        for path, target in LINKS.items():
            with inside(rootfs, "/dev") as dev:
                name = f"{dev}/{os.path.basename(path)}"
                if not os.path.lexists(name):
                    os.symlink(target, name)


def _make_device(rootfs: int, device: oci.Device) -> None:
    kind = _TYPES.get(device.type)
    if kind is None:
        raise InvalidParameter(f"linux.devices: {device.path}: unknown type {device.type!r}")
    parent, _, name = device.path.rpartition("/")
    make_mount_point(rootfs, parent, directory=True)
    with inside(rootfs, parent) as directory:
        path = f"{directory}/{name}"
        if os.path.lexists(path):
            os.unlink(path)
        mode = 0o666 if device.file_mode is None else device.file_mode
        os.mknod(path, kind | mode, os.makedev(device.major, device.minor))
        os.chmod(path, mode)  # mknod(2) obeys the umask, the specification does not
        os.chown(path, device.uid or 0, device.gid or 0, follow_symlinks=False)


# %% pivot_root
def pivot(rootfs: int, propagation: str = "") -> None:
    """Make the directory ``rootfs`` the root, and let go of the old one.

    ``pivot_root(".", ".")`` stacks the old root on top of the new one at the
    same place, so that no directory has to be made for it (an idea of LXC's
    developers, documented in pivot_root(2)); unmounting "." then takes off
    the old root. MNT_DETACH, because we still have files of it open.
    """
    with steps.step("pivot the root", call="pivot_root(2)", chapter="rootfs"):
        os.fchdir(rootfs)
        syscalls.pivot_root(".", ".")
    with steps.step("let go of the old root", call="umount2(2) MNT_DETACH", chapter="rootfs"):
        syscalls.mount("", ".", flags=Mount.SLAVE | Mount.REC)
        syscalls.umount(".", Umount.DETACH)
        os.chdir("/")
    if propagation:
        syscalls.mount("", "/", flags=PROPAGATION[propagation])


# %% What is hidden, and what may only be read
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)

READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def hide(masked: Sequence[str], readonly: Sequence[str]) -> None:
    """Cover what tells about or changes the host: files by ``/dev/null``, directories by nothing.

    Called after the pivot, so the paths are the container's.
    """
    with steps.step("protect parts of /proc and /sys", call="mount(2)", chapter="rootfs"):
        for path in readonly:
            if os.path.exists(path):
                syscalls.mount(path, path, flags=Mount.BIND | Mount.REC)
                remount(path, Mount.RDONLY)
        for path in masked:
            if os.path.isdir(path):
                syscalls.mount("tmpfs", path, "tmpfs", Mount.RDONLY, "size=0k")
            elif os.path.exists(path):
                syscalls.mount("/dev/null", path, flags=Mount.BIND)


def make_readonly() -> None:
    """``--read-only``: the root mount itself; what is mounted below keeps its own flags."""
    with steps.step(
        "make the root read-only",
        call="mount(2) MS_REMOUNT|MS_RDONLY",
        chapter="rootfs",
    ):
        remount("/", Mount.RDONLY)
