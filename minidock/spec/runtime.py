"""The OCI runtime configuration: what ``config.json`` of a bundle says.

A *bundle* is a directory with a root file system and a ``config.json`` that
says how to run it: the process, the mounts, the namespaces, the resources.
It is the seam between an engine and a runtime: MiniDock's engine writes one,
and runc, crun or MiniDock's own runtime can run it.

**Interface:** :class:`Spec` and what it consists of; decode it with
:func:`minidock.spec.codec.decode`.

**See:** OCI runtime specification, config.md and config-linux.md.
"""

from dataclasses import field
from typing import Any

from minidock.spec.codec import Value, named, value
from minidock.spec.resources import BlockIO, HugepageLimit, Network, Rdma
from minidock.spec.seccomp import Seccomp


# %% The process
@value
class User(Value):
    """Who the process is: numeric ids, as names mean nothing to the kernel."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


@value
class ConsoleSize(Value):
    """The size of the terminal in characters."""

    height: int
    width: int


@value
class Capabilities(Value):
    """The five capability sets, by name (``CAP_CHOWN``); see capabilities(7)."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@value
class Rlimit(Value):
    """A resource limit (``RLIMIT_NOFILE``); see getrlimit(2)."""

    type: str
    soft: int
    hard: int


@value
class Scheduler(Value):
    """How the kernel shares processor time with the process; see sched_setattr(2)."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0


@value
class IOPriority(Value):
    """Whose requests the disk serves first; see ioprio_set(2)."""

    class_: str
    priority: int = 0


@value
class ExecAffinity(Value):
    """Processors for ``exec``: when it begins (``initial``) and when the program runs (``final``)."""

    initial: str = ""
    final: str = ""


@value
class Process(Value):
    """The program to run, and as whom."""

    cwd: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: User = field(default_factory=User)
    terminal: bool = False
    console_size: ConsoleSize | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""
    exec_cpu_affinity: ExecAffinity | None = named("execCPUAffinity", default=None)


# %% The file system
@value
class Root(Value):
    """The root file system: a path, relative to the bundle if not absolute."""

    path: str
    readonly: bool = False


@value
class IDMapping(Value):
    """A range of user or group ids inside and outside; see user_namespaces(7)."""

    size: int
    container_id: int = named("containerID")
    host_id: int = named("hostID")


@value
class Mount(Value):
    """One mount, in the order in which they are to be made."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()


# %% Programs that run when something happens
@value
class Hook(Value):
    """A program of the host's, or the container's; ``timeout`` in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    timeout: int | None = None


@value
class Hooks(Value):
    """Six moments of a container's life."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


# %% Namespaces and devices of Linux
@value
class Namespace(Value):
    """A namespace to make, or with ``path`` one to join."""

    type: str
    path: str = ""


@value
class TimeOffset(Value):
    """How far a clock of a time namespace is ahead of the host's."""

    secs: int = 0
    nanosecs: int = 0


@value
class Personality(Value):
    """The execution domain (``LINUX``, ``LINUX32``); see personality(2)."""

    domain: str
    flags: tuple[str, ...] = ()


@value
class Device(Value):
    """A device node to make in the container."""

    type: str
    path: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


# %% Resources
@value
class DeviceRule(Value):
    """A line of the device filter: which devices may be used.

    ``access`` are letters of ``rwm`` (read, write, mknod); none are all of them.
    """

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = ""


@value
class Memory(Value):
    """Limits in bytes; -1 is none. ``swap`` counts memory and swap together."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    swappiness: int | None = None
    kernel_tcp: int | None = named("kernelTCP", default=None)
    disable_oom_killer: bool | None = named("disableOOMKiller", default=None)
    check_before_update: bool = False


@value
class CPU(Value):
    """``quota`` microseconds of processor time in each ``period``; ``shares`` is a weight.

    ``burst``: what was not used may be used later, up to so much; ``idle`` 1:
    only when nobody else wants the processor; ``realtime_…``: for real-time
    scheduling.
    """

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    idle: int | None = None
    cpus: str = ""
    mems: str = ""


@value
class Pids(Value):
    """How many processes and threads there may be; -1 or 0 is no limit."""

    limit: int


@value
class Resources(Value):
    """What the cgroup grants."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = named("blockIO", default=None)
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] = field(default_factory=dict)
    unified: dict[str, str] = field(default_factory=dict)


# %% What is particular to Linux
@value
class Linux(Value):
    """What is particular to Linux."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources = field(default_factory=Resources)
    rootfs_propagation: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    sysctl: dict[str, str] = field(default_factory=dict)
    seccomp: Seccomp | None = None
    time_offsets: dict[str, TimeOffset] = field(default_factory=dict)
    personality: Personality | None = None
    mount_label: str = ""
    intel_rdt: dict[str, Any] | None = None


# %% The whole configuration
@value
class Spec(Value):
    """The whole of ``config.json``."""

    oci_version: str
    root: Root | None = None
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    linux: Linux = field(default_factory=Linux)
    hooks: Hooks = field(default_factory=Hooks)
    annotations: dict[str, str] = field(default_factory=dict)
