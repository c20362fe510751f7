"""A configuration to begin with: what ``spec`` writes.

A shell in a container that shares nothing with the host but the kernel.
The properties, and their order, are those that ``runc spec`` writes, as
people's scripts edit that.

**Interface:** :func:`standard`, :func:`rootless`.

**See:** runc-spec(8).
"""

import os
from typing import Any

from minidock import cgroups
from minidock.rootfs.hiding import MASKED_PATHS, READONLY_PATHS

Document = dict[str, Any]


# %% For root
def standard() -> Document:
    """The configuration of ``spec``."""
    held = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    kinds = ["pid", "network", "ipc", "uts", "mount"]
    if cgroups.hierarchy() is cgroups.Version.V2:  # as runc does: version 1 shows the host's tree
        kinds.append("cgroup")
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": _mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def _mounts() -> list[Document]:
    safe = ["nosuid", "noexec", "nodev"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    return [
        _mount("/proc", "proc", "proc", []),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", pts),
        _mount("/dev/shm", "tmpfs", "shm", [*safe, "mode=1777", "size=65536k"]),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", "mqueue", safe),
        _mount("/sys", "sysfs", "sysfs", [*safe, "ro"]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*safe, "relatime", "ro"]),
    ]


def _mount(destination: str, kind: str, source: str, options: list[str]) -> Document:
    mount: Document = {"destination": destination, "type": kind, "source": source}
    if options:
        mount["options"] = options
    return mount


# %% For everybody else
def rootless() -> Document:
    """A user namespace in which the caller is root, and the host's network and ``/sys``."""
    document = standard()
    linux = document["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "network"] + [
        {"type": "user"}
    ]
    for name, number in (("uidMappings", os.geteuid()), ("gidMappings", os.getegid())):
        linux[name] = [{"containerID": 0, "hostID": number, "size": 1}]
    del linux["resources"]
    mounts = []
    for mount in document["mounts"]:
        options = [word for word in mount.get("options", ()) if not word.startswith("gid=")]
        if mount["destination"] == "/sys":
            readonly = ["rbind", "nosuid", "noexec", "nodev", "ro"]
            mount = _mount("/sys", "none", "/sys", readonly)
        elif options:
            mount["options"] = options
        if mount["type"] != "cgroup":
            mounts.append(mount)
    document["mounts"] = mounts
    return document
