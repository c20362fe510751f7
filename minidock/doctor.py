"""The doctor: can this host run containers, and if not, what is to be done?

Every check looks at one thing and gives a finding: fine, a warning (some
feature will not work), or a failure (nothing will), with the command that
mends it and the chapter that tells why it matters.

The trap for a doctor is to believe configuration files. What counts is what
the kernel says: so a check tries the thing itself where that is harmless
(mounting an overlay in a namespace of its own), and reads ``/proc`` where it
is not.

**Interface:** :func:`examine`, :data:`CHECKS`, :class:`Finding`.

**See:** moby ``contrib/check-config.sh``; proc(5).
"""

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minidock import capabilities, cgroups
from minidock.errors import Unavailable
from minidock.network.firewall import Firewall
from minidock.paths import Paths
from minidock.unionfs import choice

OK, WARN, FAIL = "ok", "warn", "fail"


# %% What a check finds
@dataclass(frozen=True, slots=True)
class Finding:
    """``level`` is ok, warn or fail; ``mend`` is what to do, empty when nothing is."""

    level: str
    what: str
    mend: str = ""
    chapter: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """How the doctor looks at things; tests give it other eyes."""

    read: Callable[[str], str]
    which: Callable[[str], str | None] = shutil.which
    euid: Callable[[], int] = os.geteuid
    exists: Callable[[str], bool] = os.path.exists


def this_host() -> Host:
    """The host we are on."""
    return Host(lambda path: Path(path).read_text())


# %% Who we are
def check_root(host: Host) -> Finding:
    """Namespaces, mounts and cgroups need root."""
    if host.euid() == 0:
        return Finding(OK, "running as root")
    return Finding(FAIL, "not running as root", "sudo minidock doctor", "container")


def check_capabilities(host: Host) -> Finding:
    """Root in a container or under systemd may lack some of root's power."""
    bounding = 0
    for line in host.read("/proc/self/status").splitlines():
        if line.startswith("CapBnd:"):
            bounding = int(line.split()[1], 16)
    missing = [n for i, n in enumerate(capabilities.NAMES) if not bounding >> i & 1]
    needed = {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_CHROOT", "CAP_SETPCAP"}
    if needed & set(missing):
        words = " ".join(sorted(needed & set(missing)))
        return Finding(FAIL, f"root without {words}", "run on the host, or in a VM", "namespaces")
    if missing:
        words = " ".join(missing[:4])
        return Finding(
            WARN, f"not in the bounding set: {words}", "raising limits may fail", "namespaces"
        )
    return Finding(OK, "all capabilities can be granted")


# %% The kernel
def check_kernel(host: Host) -> Finding:
    """openat2 and close_range came with Linux 5.9, cgroup.kill with 5.14; Debian 12 has 6.1."""
    release = host.read("/proc/sys/kernel/osrelease").strip()
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in release.split(".")[:2]]
    if numbers >= [5, 12]:
        return Finding(OK, f"Linux {release}")
    return Finding(FAIL, f"Linux {release} is too old (5.12 is the least)", "upgrade", "container")


def check_namespaces(host: Host) -> Finding:
    """Each kind has a file in /proc/self/ns."""
    kinds = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user")
    missing = [kind for kind in kinds if not host.exists(f"/proc/self/ns/{kind}")]
    if missing:
        return Finding(
            FAIL, f"no namespaces of kind {' '.join(missing)}", "another kernel", "namespaces"
        )
    return Finding(OK, "all kinds of namespaces")


def check_overlay(host: Host) -> Finding:
    """Without overlayfs every container is a copy of its image."""
    if any(line.split()[-1] == "overlay" for line in host.read("/proc/filesystems").splitlines()):
        return Finding(OK, "overlayfs")
    return Finding(
        WARN, "no overlayfs: another storage driver is used", "modprobe overlay", "unionfs"
    )


def check_drivers(host: Host) -> Finding | list[Finding]:
    """Which storage drivers this host can do: each is asked, and tries it."""
    if host.euid() != 0:
        return []
    root = Paths.from_environment().layers
    place = next(path for path in (root, *root.parents) if path.exists())
    lacks = choice.examine(place)
    can = " ".join(name for name, lack in lacks.items() if not lack)
    cannot = "; ".join(f"{name}: {lack}" for name, lack in lacks.items() if lack)
    return Finding(
        OK, f"storage drivers: {can}" + (f" (not {cannot})" if cannot else ""), "", "unionfs"
    )


def check_propagation(host: Host) -> Finding:
    """A shared / is normal (systemd makes it so); the engine copes, by hand it is the classic EINVAL."""
    for line in host.read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if fields[4] == "/":
            words = [word for word in fields[6:] if word.startswith(("shared", "master"))]
            kind = "shared" if words and words[0].startswith("shared") else "private"
            return Finding(OK, f"mounts below / are {kind}", "", "rootfs")
    return Finding(WARN, "no mount of / to be seen", "", "rootfs")


# %% Cgroups
WANTED = ("cpu", "cpuset", "memory", "pids")


def check_cgroups(host: Host) -> Finding:
    """Which version, and whether the controllers for -m, --cpus and --pids-limit are there."""
    try:
        found = cgroups.parse_mountinfo(host.read("/proc/self/mountinfo"))
    except Unavailable as error:
        return Finding(FAIL, str(error), "mount -t cgroup2 none /sys/fs/cgroup", "cgroups")
    if not found.controllers and found.unified is None:
        return Finding(
            FAIL, "no cgroups are mounted", "mount -t cgroup2 none /sys/fs/cgroup", "cgroups"
        )
    has = set(found.controllers)
    if found.version is cgroups.Version.V2 and found.unified:
        has = set(host.read(f"{found.unified}/cgroup.controllers").split())
    missing = [name for name in WANTED if name not in has]
    text = f"cgroups {found.version.value}"
    if missing:
        mend = "boot with cgroup_enable=" + ",".join(missing)
        return Finding(WARN, f"{text} without {' '.join(missing)}", mend, "cgroups")
    return Finding(OK, f"{text}, with {' '.join(WANTED)}")


# %% The network
def check_forwarding(host: Host) -> Finding:
    """The engine switches it on with the first bridge; somebody may switch it off again."""
    if host.read("/proc/sys/net/ipv4/ip_forward").strip() == "1":
        return Finding(OK, "IPv4 packets are forwarded")
    return Finding(WARN, "IPv4 forwarding is off (the first container on a bridge switches it on)",
                   "sysctl -w net.ipv4.ip_forward=1", "network")  # fmt: skip


def check_firewall(host: Host) -> Finding:
    """Another engine's FORWARD policy of DROP cuts our bridge off; the engine adds an exception."""
    if host.which("iptables") is None:
        return Finding(OK, "no iptables, so no other engine's rules")
    if host.euid() == 0 and Firewall("minidock0", "172.30.0.0/16").foreign_drops():
        return Finding(WARN, "another engine's firewall drops forwarded packets (Docker's does)",
                       "none needed: MiniDock adds an exception for its bridge", "network")  # fmt: skip
    return Finding(OK, "no other engine's firewall is in the way")


# %% Tools
TOOLS = (
    ("nft", "nftables", FAIL, "network"),
    ("iptables", "iptables", WARN, "network"),
    ("mmdebstrap", "mmdebstrap", WARN, "images"),
    ("busybox", "busybox-static", WARN, "images"),
    ("tini-static", "tini", WARN, "container"),
    ("zstd", "zstd", WARN, "images"),
    ("ps", "procps", WARN, "container"),
)


def check_tools(host: Host) -> list[Finding]:
    """The programs the engine calls."""
    return [
        Finding(OK, f"{program} is installed")
        if host.which(program)
        else Finding(level, f"{program} is not installed", f"apt-get install {package}", chapter)
        for program, package, level, chapter in TOOLS
    ]


# %% Our own places
def check_socket(host: Host) -> Finding:
    """Who owns the socket can make root do anything."""
    path = Paths.from_environment().socket
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return Finding(OK, "no daemon is running (the first command starts one)")
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != 0:
        return Finding(FAIL, f"{path} is not root's socket", f"rm {path}", "run")
    if status.st_mode & stat.S_IWOTH:
        return Finding(
            WARN, f"everybody may write to {path}: everybody is root", f"chmod 660 {path}", "run"
        )
    return Finding(OK, f"the daemon's socket {path} is root's")


def check_disk(host: Host) -> Finding:
    """Images are large, and a full disk is found out late."""
    root = Paths.from_environment().root
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < 1 << 30:
        return Finding(WARN, f"only {free >> 20} MB free below {place}", "make room", "images")
    return Finding(OK, f"{free >> 30} GB free below {place}")


# %% All of them
Check = Callable[[Host], "Finding | list[Finding]"]

CHECKS: tuple[Check, ...] = (
    check_root,
    check_capabilities,
    check_kernel,
    check_namespaces,
    check_cgroups,
    check_overlay,
    check_drivers,
    check_propagation,
    check_forwarding,
    check_firewall,
    check_tools,
    check_socket,
    check_disk,
)


def examine(host: Host) -> list[Finding]:
    """What all checks find, in order."""
    findings: list[Finding] = []
    for check in CHECKS:
        found = check(host)
        findings += found if isinstance(found, list) else [found]
    return findings
