"""What a configuration must not ask for.

The decoder has seen to the types; here is what makes no sense although it
is well formed: a host name without a namespace to keep it in, a relative
working directory, an id map for a namespace that nobody makes. It is said
before anything is made, in one line that names the property.

The trap is a kernel parameter: without a namespace of its own, a container
that sets one sets the host's. Only those that belong to a namespace pass,
and only if the container has that namespace to itself.

**Interface:** :func:`check`, :func:`check_process`.

**See:** OCI runtime specification, config.md, config-linux.md; runc
``libcontainer/configs/validate``.
"""

import os

from minidock import namespaces
from minidock.errors import InvalidParameter
from minidock.spec.runtime import Linux, Process, Spec

RLIMITS = frozenset(
    f"RLIMIT_{name}"
    for name in (
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME"
        " SIGPENDING STACK"
    ).split()
)


# %% The whole
def check(spec: Spec, bundle: str) -> None:
    """Raise :class:`InvalidParameter` for the first thing in ``spec`` that cannot be."""
    if spec.oci_version.split(".")[0] != "1":
        raise InvalidParameter(f"ociVersion {spec.oci_version!r}: only 1.x is supported")
    _check_root(spec, bundle)
    if spec.process is None:
        raise InvalidParameter("process property must not be empty")
    check_process(spec.process)
    _check_namespaces(spec)
    _check_mounts(spec)
    _check_devices(spec.linux)
    _check_hooks(spec)
    _check_sysctls(spec)
    if spec.linux.intel_rdt:
        raise InvalidParameter("intelRdt is specified in config, but Intel RDT is not enabled")
    if spec.linux.mount_label:
        raise InvalidParameter(_NO_SELINUX)


_NO_SELINUX = "selinux label is specified in config, but selinux is disabled or not supported"


def _check_root(spec: Spec, bundle: str) -> None:
    if spec.root is None:
        raise InvalidParameter("root must be specified")
    path = os.path.join(bundle, spec.root.path)
    try:
        os.listdir(path)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidParameter(f"invalid rootfs: stat {path}: {reason}") from None


# %% The process
def check_process(process: Process) -> None:
    """What must be so for a container's process, and for one that exec adds."""
    if not process.cwd:
        raise InvalidParameter("Cwd property must not be empty")
    if not process.cwd.startswith("/"):
        raise InvalidParameter(f"Cwd must be an absolute path, not {process.cwd!r}")
    if not process.args:
        raise InvalidParameter("args must not be empty")
    for variable in process.env:
        if "=" not in variable or variable.startswith("="):
            raise InvalidParameter(f"process.env: {variable!r} is not of the form NAME=VALUE")
    if process.selinux_label:
        raise InvalidParameter(_NO_SELINUX)
    _check_rlimits(process)
    _check_priorities(process)
    if process.oom_score_adj is not None and not -1000 <= process.oom_score_adj <= 1000:
        raise InvalidParameter(
            f"process.oomScoreAdj: {process.oom_score_adj} is not between -1000 and 1000"
        )


def _check_rlimits(process: Process) -> None:
    seen = set()
    for rlimit in process.rlimits:
        if rlimit.type not in RLIMITS:
            raise InvalidParameter(f"wrong rlimit value: {rlimit.type}")
        if rlimit.type in seen:
            raise InvalidParameter(f"process.rlimits: {rlimit.type} is given twice")
        seen.add(rlimit.type)


def _check_priorities(process: Process) -> None:
    from minidock.linux import attributes

    scheduler, disk = process.scheduler, process.io_priority
    if scheduler is not None:
        _expect("process.scheduler.policy", scheduler.policy, attributes.SCHED_POLICIES)
        for flag in scheduler.flags:
            _expect("process.scheduler.flags", flag, attributes.SCHED_FLAGS)
    if disk is not None:
        _expect("process.ioPriority.class", disk.class_, attributes.IO_CLASSES)
        if not 0 <= disk.priority <= 7:
            raise InvalidParameter(
                f"process.ioPriority.priority: {disk.priority} is not between 0 and 7"
            )


def _expect(what: str, value: str, known: dict[str, int]) -> None:
    if value not in known:
        raise InvalidParameter(f"{what}: unknown {value!r} (one of {', '.join(known)})")


# %% Namespaces
def _check_namespaces(spec: Spec) -> None:
    wanted = spec.linux.namespaces
    seen = set()
    for namespace in wanted:
        kind = namespaces.kind_of(namespace)
        if kind.name in seen:
            raise InvalidParameter(f"linux.namespaces: {kind.name} is given twice")
        seen.add(kind.name)
        if namespace.path and not namespace.path.startswith("/"):
            raise InvalidParameter(f"linux.namespaces: {namespace.path!r} is not an absolute path")
    if spec.hostname and "uts" not in seen:
        raise InvalidParameter("unable to set hostname without a private UTS namespace")
    if spec.domainname and "uts" not in seen:
        raise InvalidParameter("unable to set domainname without a private UTS namespace")
    if "mount" not in seen and (spec.linux.masked_paths or spec.linux.readonly_paths):
        raise InvalidParameter("unable to restrict sys entries without a private MNT namespace")
    if spec.linux.time_offsets and not namespaces.has_new(wanted, "time"):
        raise InvalidParameter("time namespace offsets specified, but time namespace isn't enabled")
    for clock in spec.linux.time_offsets:
        if clock not in ("boottime", "monotonic"):
            raise InvalidParameter(
                f"linux.timeOffsets: unknown clock {clock!r} (boottime or monotonic)"
            )
    _check_user_namespace(spec.linux)


def _check_user_namespace(linux: Linux) -> None:
    maps = linux.uid_mappings or linux.gid_mappings
    if namespaces.has_new(linux.namespaces, "user"):
        for name, given in (("uid", linux.uid_mappings), ("gid", linux.gid_mappings)):
            if not given:
                raise InvalidParameter(f"User namespaces enabled, but no {name} mappings found.")
    elif maps and not namespaces.has(linux.namespaces, "user"):
        raise InvalidParameter(
            "user namespace mappings specified, but user namespace isn't enabled in the config"
        )


# %% Mounts, devices, hooks
def _check_mounts(spec: Spec) -> None:
    for number, mount in enumerate(spec.mounts):
        if not mount.destination:
            raise InvalidParameter(f"mounts[{number}].destination must not be empty")
        if bool(mount.uid_mappings) != bool(mount.gid_mappings):
            raise InvalidParameter(
                f"mounts[{number}]: uidMappings and gidMappings must be given together"
            )


def _check_devices(linux: Linux) -> None:
    for number, device in enumerate(linux.devices):
        if device.type not in ("c", "b", "u", "p"):
            raise InvalidParameter(
                f"linux.devices[{number}]: unknown type {device.type!r} (one of c, b, u, p)"
            )
        if not device.path.startswith("/"):
            raise InvalidParameter(f"linux.devices[{number}]: path {device.path!r} is not absolute")


def _check_hooks(spec: Spec) -> None:
    kinds = ("prestart", "create_runtime", "create_container", "start_container")
    for kind in (*kinds, "poststart", "poststop"):
        for hook in getattr(spec.hooks, kind):
            if not hook.path.startswith("/"):
                raise InvalidParameter(f"hooks: path {hook.path!r} is not absolute")
            if hook.timeout is not None and hook.timeout <= 0:
                raise InvalidParameter(f"hooks: {hook.path}: timeout must be greater than zero")


# %% Kernel parameters
IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)


def _check_sysctls(spec: Spec) -> None:
    for name in spec.linux.sysctl:
        dotted = name.replace("/", ".")
        if dotted in IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
            _needs(spec, "ipc", name, "is not allowed in the hosts ipc namespace")
        elif dotted.startswith("net."):
            _needs(spec, "network", name, "not allowed in host network namespace")
        elif dotted == "kernel.domainname":
            _needs(spec, "uts", name, "is not allowed in the hosts uts namespace")
        elif dotted == "kernel.hostname":
            raise InvalidParameter(
                f'sysctl "{name}" is not allowed as it conflicts with the OCI "hostname" field'
            )
        elif not dotted.startswith("user."):
            raise InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')
        else:
            _needs(spec, "user", name, "is not allowed in the hosts user namespace")


def _needs(spec: Spec, kind: str, name: str, otherwise: str) -> None:
    for namespace in spec.linux.namespaces:
        if namespace.type == kind and not _is_hosts(namespace.path, kind):
            return
    raise InvalidParameter(f'sysctl "{name}" {otherwise}')


def _is_hosts(path: str, kind: str) -> bool:
    """Whether ``path`` names the namespace that we are in ourselves."""
    if not path:
        return False
    try:
        there, here = os.stat(path), os.stat(f"/proc/self/ns/{namespaces.BY_NAME[kind].file}")
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


# %% The cgroup's driver
def check_cgroup_path(cgroups_path: str) -> None:
    """Three words are systemd's, and for ``--systemd-cgroup``; as a directory they would be a strange one."""
    if cgroups_path.count(":") == 2 and "/" not in cgroups_path:
        raise InvalidParameter(
            f"linux.cgroupsPath {cgroups_path!r} is a systemd unit: call with --systemd-cgroup, or name"
            " a path like /a/b"
        )
