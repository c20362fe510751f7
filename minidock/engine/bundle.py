"""From a container's record to an OCI bundle.

The engine speaks of images, networks and memory limits; the runtime knows
only ``config.json``. This module is the translation, and because the bundle
is a standard one, ``runc run --bundle`` on a container's directory would
run it, too.

The traps are the defaults, which are half of what makes a container a
container: which devices may be opened, what ``/dev/shm`` is, that ``/sys``
is read-only, that pings work without root.

**Interface:** :func:`specification`, :func:`process`.

**See:** OCI runtime specification, config.md and config-linux.md; moby
``oci/defaults.go``.
"""

import os
from pathlib import Path
from typing import Any

from minidock import capabilities
from minidock.engine import devices, resources, security, users
from minidock.engine.container import Container
from minidock.errors import Unavailable
from minidock.rootfs.hiding import MASKED_PATHS, READONLY_PATHS
from minidock.spec import runtime as oci

INIT_PROGRAM = "/usr/bin/tini-static"
INIT_TARGET = "/sbin/docker-init"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# %% The whole specification
def specification(
    container: Container, root: Path, hostname: str, namespaces: dict[str, str | None]
) -> oci.Spec:
    """``config.json`` for ``container``, whose root file system is mounted at ``root``.

    ``namespaces`` maps kinds to a path to join or "" to make one; a kind with
    ``None`` is shared with the host.
    """
    host = container.host_config
    wanted = {kind: path for kind, path in namespaces.items() if path is not None}
    privileged = host["Privileged"]
    return oci.Spec(
        oci_version="1.0.2",  # all that is used here is in it, and older runtimes take no other
        root=oci.Root("rootfs", host["ReadonlyRootfs"]),
        process=process(container, root, container.config, hostname),
        hostname=hostname if "uts" in wanted else "",
        domainname=container.config["Domainname"] if "uts" in wanted else "",
        mounts=(*_standard_mounts(container), *_own_mounts(container)),
        linux=oci.Linux(
            namespaces=tuple(oci.Namespace(kind, path) for kind, path in wanted.items()),
            devices=devices.nodes(host),
            cgroups_path=container.cgroup,
            resources=resources.resources(host, devices.rules(host)),
            masked_paths=_paths(host["MaskedPaths"], MASKED_PATHS, privileged),
            readonly_paths=_paths(host["ReadonlyPaths"], READONLY_PATHS, privileged),
            sysctl=_sysctls(host, wanted),
            seccomp=security.system_call_filter(host),
        ),
    )


def _paths(asked: list[str] | None, default: tuple[str, ...], privileged: bool) -> tuple[str, ...]:
    if asked is not None:
        return tuple(asked)
    return () if privileged else default


def _sysctls(host: dict[str, Any], wanted: dict[str, str]) -> dict[str, str]:
    """In its own network namespace anybody may ping and listen on port 80: it is nobody else's."""
    ours = {}
    if "network" in wanted and not host["NetworkMode"].startswith("container:"):
        ours["net.ipv4.ip_unprivileged_port_start"] = "0"
        if "user" not in wanted:  # groups that its maps do not have cannot be named
            ours["net.ipv4.ping_group_range"] = "0 2147483647"
    return {**ours, **host["Sysctls"]}


# %% The process
def process(container: Container, root: Path, config: dict[str, Any], hostname: str) -> oci.Process:
    """The container's own process; ``config`` says which program, as whom, with what variables."""
    host = container.host_config
    account = users.find(root, config["User"], host["GroupAdd"])
    size = host.get("ConsoleSize") or [0, 0]
    arguments = [*(config["Entrypoint"] or []), *(config["Cmd"] or [])]
    if host["Init"]:
        arguments = [INIT_TARGET, "--", *arguments]
    return oci.Process(
        cwd=config["WorkingDir"] or "/",
        args=tuple(arguments),
        env=environment(config, hostname, account.home),
        user=account.user,
        terminal=config["Tty"],
        console_size=oci.ConsoleSize(*size) if config["Tty"] and any(size) else None,
        capabilities=capability_sets(host, account.user),
        rlimits=resources.rlimits(host),
        no_new_privileges=security.no_new_privileges(host),
        oom_score_adj=resources.oom_score(host),
    )


def environment(config: dict[str, Any], hostname: str, home: str) -> tuple[str, ...]:
    """The variables: a few that every program expects, then the image's and the caller's."""
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config["Tty"]:
        variables["TERM"] = "xterm"
    variables |= dict(entry.split("=", 1) for entry in config["Env"])
    variables.setdefault("HOME", home)
    return tuple(f"{name}={value}" for name, value in variables.items())


def capability_sets(host: dict[str, Any], user: oci.User) -> oci.Capabilities:
    """The five sets; none are inheritable (CVE-2022-24769), and a user who is not root has none."""
    names = tuple(capabilities.select(host["CapAdd"], host["CapDrop"], host["Privileged"]))
    held = names if user.uid == 0 else ()
    return oci.Capabilities(bounding=names, effective=held, permitted=held)


# %% The mounts of every container
def _standard_mounts(container: Container) -> list[oci.Mount]:
    host = container.host_config
    privileged = host["Privileged"]
    readonly = () if privileged else ("ro",)
    safe = ("nosuid", "noexec", "nodev")
    mounts = [
        oci.Mount("/proc", "proc", "proc", safe),
        oci.Mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            ("nosuid", "strictatime", "mode=755", "size=65536k"),
        ),
        oci.Mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        oci.Mount("/sys", "sysfs", "sysfs", (*safe, *readonly)),
    ]
    mounts.append(oci.Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*safe, *readonly)))
    return mounts + _ipc_mounts(container, (*safe, "mode=1777", f"size={host['ShmSize']}"))


def _ipc_mounts(container: Container, options: tuple[str, ...]) -> list[oci.Mount]:
    """``/dev/mqueue`` and ``/dev/shm``: the kernel's two windows on shared memory and queues.

    What is lent to others (``--ipc shareable``) is mounted by the engine, see
    :mod:`.shm`, and bound here.
    """
    mode = container.host_config["IpcMode"]
    mounts = [oci.Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev"))]
    if mode == "none":
        return mounts
    if container.shm:
        return [*mounts, _rbind("/dev/shm", container.shm)]  # noqa: S108
    return [*mounts, oci.Mount("/dev/shm", "tmpfs", "shm", options)]  # noqa: S108


def _rbind(target: str, source: str) -> oci.Mount:
    return oci.Mount(target, "bind", source, ("rbind", "rprivate"))


# %% The mounts of this container
NETWORK_FILES = ("resolv.conf", "hostname", "hosts")


def _own_mounts(container: Container) -> list[oci.Mount]:
    host = container.host_config
    mounts = [_own_mount(mount) for mount in host["Mounts"]]
    taken = {mount.destination for mount in mounts}
    for name in NETWORK_FILES:
        if f"/etc/{name}" not in taken:
            source = str(container.directory / name)
            mounts.append(oci.Mount(f"/etc/{name}", "bind", source, ("rbind", "rprivate")))
    if host["Init"]:
        if not os.path.exists(INIT_PROGRAM):
            raise Unavailable(f"--init needs {INIT_PROGRAM}: apt-get install tini")
        mounts.append(oci.Mount(INIT_TARGET, "bind", INIT_PROGRAM, ("bind", "ro")))
    return mounts


def _own_mount(mount: dict[str, Any]) -> oci.Mount:
    if mount["Type"] == "tmpfs":
        given = [word for word in (mount.get("Options") or "").split(",") if word]
        words = ["nosuid", "nodev", "noexec", *given]
        return oci.Mount(mount["Target"], "tmpfs", "tmpfs", tuple(dict.fromkeys(words)))
    if mount["Create"]:
        os.makedirs(mount["Source"], exist_ok=True) if not os.path.exists(mount["Source"]) else None
    mode = ("ro",) if mount["ReadOnly"] else ()
    return oci.Mount(
        mount["Target"], "bind", mount["Source"], ("rbind", *mode, mount["Propagation"])
    )
