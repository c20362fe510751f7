"""What was asked for: checked, completed from the image, and put in order.

``docker create`` sends a large JSON object of which most is absent, null or
zero. Here it becomes a record in which every decision is made, so that
nothing after this module has to ask what a missing property means.

The trap is silence: a property that the engine does not know how to honour
must be refused by name, not ignored; a container that *seems* confined is
worse than none.

**Interface:** :func:`complete`.

**See:** Engine API, "Create a container"; moby ``daemon/create.go`` and
``daemon/daemon_unix.go``, whose words the messages are.
"""

import os
import re
from typing import Any

from minidock import capabilities
from minidock.errors import InvalidParameter, NotSupported
from minidock.images.image import Image, container_config

Body = dict[str, Any]

MINIMUM_MEMORY = 6 * 1024 * 1024
DEFAULT_SHM = 64 * 1024 * 1024


# %% The record of a container
def complete(body: Body, image: Image) -> tuple[Body, Body]:
    """The full ``Config`` and ``HostConfig`` for the request ``body``.

    Raises :class:`InvalidParameter` or :class:`NotSupported`, naming what is
    wrong.
    """
    given = {key: value for key, value in body.items() if key not in _NOT_CONFIG}
    config = _merge(given, image)
    host = {**_HOST_DEFAULTS, **_without_empty(body.get("HostConfig") or {})}
    _check_config(config)
    _check_supported(host)
    _check_resources(host)
    _check_network(host)
    capabilities.select(host["CapAdd"], host["CapDrop"], host["Privileged"])
    host["Mounts"] = _mounts(host)
    host["Binds"] = host["Binds"] or []
    if host["PidsLimit"] in (0, -1):
        host["PidsLimit"] = None
    if not host["LogConfig"].get("Type"):
        host["LogConfig"] = {"Type": "json-file", "Config": {}}
    if host["MemorySwappiness"] == -1:  # how the docker command line says "as it is"
        host["MemorySwappiness"] = None
    return config, host


_NOT_CONFIG = ("HostConfig", "NetworkingConfig")


def _without_null(values: Body) -> Body:
    return {key: value for key, value in values.items() if value is not None}


def _without_empty(values: Body) -> Body:
    """An empty string means "as usual", too, where the usual is something."""
    given = _without_null(values)
    return {key: value for key, value in given.items() if value != ""}


# %% Completing the configuration from the image's
_CONFIG_DEFAULTS: Body = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": [],
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": {},
}


def _merge(given: Body, image: Image) -> Body:
    """What the request leaves open, the image decides; its command goes with its entry point."""
    wanted = {**_CONFIG_DEFAULTS, **_without_null(given)}
    ours = container_config(image)
    if given.get("Entrypoint") in (None, []):
        if not wanted["Cmd"]:
            wanted["Cmd"] = ours.get("Cmd")
        wanted["Entrypoint"] = ours.get("Entrypoint")
    if wanted["Entrypoint"] == [""]:  # `--entrypoint ""` takes the image's away
        wanted["Entrypoint"] = None
    for name in ("User", "WorkingDir", "StopSignal"):
        if not wanted.get(name) and ours.get(name):
            wanted[name] = ours[name]
    wanted["Env"] = _merge_environment(ours.get("Env") or [], wanted["Env"])
    wanted["Labels"] = {**(ours.get("Labels") or {}), **wanted["Labels"]}
    exposed = {**(ours.get("ExposedPorts") or {}), **(wanted.get("ExposedPorts") or {})}
    if exposed:
        wanted["ExposedPorts"] = exposed
    return wanted


def _merge_environment(ours: list[str], given: list[str]) -> list[str]:
    """The image's variables, overridden; ``NAME`` without ``=`` takes one away."""
    merged = {entry.partition("=")[0]: entry for entry in (*ours, *given)}
    return [entry for entry in merged.values() if "=" in entry]


# %% Checking it
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?\Z")


def _check_config(config: Body) -> None:
    if not config["Cmd"] and not config["Entrypoint"]:
        raise InvalidParameter("no command specified")
    directory = config["WorkingDir"]
    if directory and not directory.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{directory}' is invalid, it needs to be an absolute path"
        )
    hostname = config["Hostname"]
    if len(hostname) > 63 or (hostname and not _HOSTNAME.match(hostname)):
        raise InvalidParameter(f"invalid hostname format: {hostname}")
    for entry in config["Env"]:
        if entry.startswith("=") or "\0" in entry:
            raise InvalidParameter(f"invalid environment variable: {entry!r}")


# %% What the host is asked for
_HOST_DEFAULTS: Body = {
    "AutoRemove": False,
    "Binds": [],
    "CapAdd": [],
    "CapDrop": [],
    "CgroupnsMode": "private",
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuShares": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": [],
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": [],
    "GroupAdd": [],
    "Init": False,
    "IpcMode": "private",
    "LogConfig": {"Type": "json-file", "Config": {}},
    "MaskedPaths": None,
    "Memory": 0,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "Mounts": [],
    "NanoCpus": 0,
    "NetworkMode": "default",
    "OomScoreAdj": 0,
    "PidMode": "",
    "PidsLimit": None,
    "PortBindings": {},
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyPaths": None,
    "ReadonlyRootfs": False,
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "Runtime": "minidock",
    "SecurityOpt": [],
    "ShmSize": DEFAULT_SHM,
    "Sysctls": {},
    "Tmpfs": {},
    "UTSMode": "",
    "Ulimits": [],
    "UsernsMode": "",
}

_REFUSED = {
    "VolumesFrom": "--volumes-from",
    "Links": "--link",
    "BlkioWeight": "--blkio-weight",
    "BlkioDeviceReadBps": "--device-read-bps",
    "BlkioDeviceWriteBps": "--device-write-bps",
    "DeviceRequests": "--gpus",
    "CgroupParent": "--cgroup-parent",
    "DeviceCgroupRules": "--device-cgroup-rule",
    "StorageOpt": "--storage-opt",
    "VolumeDriver": "--volume-driver",
    "CpuRealtimePeriod": "--cpu-rt-period",
    "CpuRealtimeRuntime": "--cpu-rt-runtime",
}


_SECURITY_OPTIONS = ("no-new-privileges", "seccomp=unconfined", "apparmor=unconfined", "label")


def _check_supported(host: Body) -> None:
    """Refuse by name what would otherwise be ignored."""
    for name, flag in _REFUSED.items():
        if host.get(name):
            raise NotSupported(f"{flag} is not supported by MiniDock")
    policy = host["RestartPolicy"].get("Name") or "no"
    if policy != "no":
        raise NotSupported(f"restart policy {policy!r} is not supported by MiniDock (only 'no')")
    if host["Runtime"] not in ("", "minidock"):
        raise InvalidParameter(f"unknown or invalid runtime name: {host['Runtime']}")
    for option in host["SecurityOpt"]:
        if not option.replace(":", "=").startswith(_SECURITY_OPTIONS):
            raise NotSupported(f"--security-opt {option} is not supported by MiniDock")
    if host["UsernsMode"] not in ("", "host"):
        raise NotSupported(
            f"--userns {host['UsernsMode']} is not supported by MiniDock (only host): its layers"
            " belong to the host's root"
        )
    for mode, allowed in (
        ("IpcMode", "private shareable none host"),
        ("PidMode", "host"),
    ):
        value = host[mode] or ""
        if value and value not in allowed.split() and not value.startswith("container:"):
            raise InvalidParameter(f"invalid {mode[:3].upper()} mode: {value}")


# %% Limits
def _check_resources(host: Body) -> None:
    """Docker's bounds, in Docker's words."""
    memory, swap = host["Memory"], host["MemorySwap"]
    if 0 < memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if memory < 0:
        raise InvalidParameter(f"invalid memory limit: {memory}")
    if swap > 0 and not memory:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit")
    if 0 < swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit")
    if memory and host["MemoryReservation"] > memory:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit")
    swappiness = host["MemorySwappiness"]
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidParameter(
            f"Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )
    cpus = os.cpu_count() or 1
    if host["NanoCpus"] and not 10**7 <= host["NanoCpus"] <= cpus * 10**9:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if host["NanoCpus"] and (host["CpuPeriod"] or host["CpuQuota"]):
        raise InvalidParameter(
            "Conflicting options: Nano CPUs and CPU Period/Quota cannot both be set"
        )
    if host["CpuPeriod"] and not 1000 <= host["CpuPeriod"] <= 1000000:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s"
        )
    if host["CpuQuota"] > 0 and host["CpuQuota"] < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if not -1000 <= host["OomScoreAdj"] <= 1000:
        raise InvalidParameter(
            f"Invalid value {host['OomScoreAdj']}, range for oom score adj is [-1000, 1000]"
        )
    if host["ShmSize"] < 0:
        raise InvalidParameter("SHM size can not be less than 0")


# %% The network
def _check_network(host: Body) -> None:
    mode = host["NetworkMode"]
    if mode not in ("default", "bridge", "host", "none") and not mode.startswith("container:"):
        raise InvalidParameter(
            f"network {mode} not found (MiniDock has bridge, host, none and container:NAME)"
        )
    if host["PortBindings"] and mode in ("none", "host"):
        host["PortBindings"] = {}  # as Docker: published ports are discarded in these modes
    if host["AutoRemove"] and (host["RestartPolicy"].get("Name") or "no") != "no":
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")


# %% Mounts: -v, --mount and --tmpfs become one list
def _mounts(host: Body) -> list[Body]:
    """``Binds``, ``Mounts`` and ``Tmpfs`` as one list in the form of the API's ``Mounts``."""
    mounts = [_bind(text) for text in host["Binds"] or []]
    mounts += [_mount(entry) for entry in host["Mounts"] or []]
    mounts += [
        {"Type": "tmpfs", "Target": target, "Options": options}
        for target, options in (host["Tmpfs"] or {}).items()
    ]
    seen: set[str] = set()
    for mount in mounts:
        target = os.path.normpath(mount["Target"])
        if not target.startswith("/") or target == "/":
            problem = "must be absolute" if target != "/" else "can't be '/'"
            raise InvalidParameter(
                f"invalid mount path: '{mount['Target']}': destination {problem}"
            )
        if target in seen:
            raise InvalidParameter(f"Duplicate mount point: {target}")
        seen.add(target)
    return sorted(mounts, key=lambda mount: mount["Target"].count("/"))


_BIND_MODES = {
    "rw",
    "ro",
    "z",
    "Z",
    "rprivate",
    "private",
    "rslave",
    "slave",
    "rshared",
    "shared",
}


def _bind(text: str) -> Body:
    """``SOURCE:TARGET[:MODE]``; a source that is missing will be made, as Docker does for ``-v``."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not target:
        raise NotSupported(
            f"anonymous volumes are not supported by MiniDock: {text} (want /host:/target)"
        )
    if not source.startswith("/"):
        raise NotSupported(
            f"named volumes are not supported by MiniDock: {text} (want /host:/target)"
        )
    words = [word for word in mode.split(",") if word]
    for word in words:
        if word not in _BIND_MODES:
            raise InvalidParameter(f"invalid mode: {mode}")
    propagation = next((word for word in words if word not in ("rw", "ro", "z", "Z")), "rprivate")
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": "ro" in words,
        "Mode": mode,
        "Create": True,
        "Propagation": propagation,
    }


def _mount(entry: Body) -> Body:
    """One of ``--mount``; here a missing source is an error, as Docker has it."""
    kind, source = entry.get("Type"), entry.get("Source", "")
    if not entry.get("Target"):
        raise InvalidParameter(
            f'invalid mount config for type "{kind}": field Target must not be empty'
        )
    if kind == "bind":
        options = entry.get("BindOptions") or {}
        create = bool(options.get("CreateMountpoint"))
        if not create and not os.path.exists(source):
            raise InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {source}'
            )
        return {
            "Type": "bind",
            "Source": source,
            "Target": entry["Target"],
            "ReadOnly": bool(entry.get("ReadOnly")),
            "Create": create,
            "Propagation": options.get("Propagation") or "rprivate",
        }
    if kind == "tmpfs":
        options = entry.get("TmpfsOptions") or {}
        words = [f"size={options['SizeBytes']}"] if options.get("SizeBytes") else []
        words += [f"mode={options['Mode']:o}"] if options.get("Mode") else []
        return {"Type": "tmpfs", "Target": entry["Target"], "Options": ",".join(words)}
    raise NotSupported(
        f"mounts of type {kind!r} are not supported by MiniDock (only bind and tmpfs)"
    )
