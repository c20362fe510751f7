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

from typing import Any

from minidock.engine import devices, modes, resources, security
from minidock.engine.limits import check_restart_policy
from minidock.engine.mounts import mounts
from minidock.engine.signals import signal_number
from minidock.errors import InvalidParameter, NotSupported
from minidock.images.image import Image, container_config
from minidock.runtime import foreign

Body = dict[str, Any]

DEFAULT_SHM = 64 * 1024 * 1024


# %% The record of a container
def complete(body: Body, image: Image) -> tuple[Body, Body]:
    """The full ``Config`` and ``HostConfig`` for the request ``body``.

    Raises :class:`InvalidParameter` or :class:`NotSupported`, naming what is
    wrong.
    """
    given = {key: value for key, value in body.items() if key not in _NOT_CONFIG}
    config = _merge(given, image)
    config |= _of_endpoint(body)
    host = {**_HOST_DEFAULTS, **_without_empty(body.get("HostConfig") or {})}
    _check_config(config)
    _check_supported(host)
    resources.check(host)
    devices.check(host)
    _check_network(host)
    security.check(host)
    host["Mounts"] = mounts(host)
    for target in body.get("Volumes") or {}:
        if target not in [mount["Target"] for mount in host["Mounts"]]:
            raise NotSupported(
                f"anonymous volumes are not supported by MiniDock: {target} (want /host:/target)"
            )
    host["Binds"] = host["Binds"] or []
    if host["Memory"] > 0 and not host["MemorySwap"]:
        host["MemorySwap"] = 2 * host["Memory"]  # Docker's default: as much swap as memory
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
    wanted["Env"] = merge_environment(ours.get("Env") or [], wanted["Env"])
    wanted["Labels"] = {**(ours.get("Labels") or {}), **wanted["Labels"]}
    exposed = {**(ours.get("ExposedPorts") or {}), **(wanted.get("ExposedPorts") or {})}
    if exposed:
        wanted["ExposedPorts"] = exposed
    return wanted


def merge_environment(ours: list[str], given: list[str]) -> list[str]:
    """The image's variables, overridden; ``NAME`` without ``=`` takes one away."""
    merged = {entry.partition("=")[0]: entry for entry in (*ours, *given)}
    return [entry for entry in merged.values() if "=" in entry]


# %% Checking it
LONGEST_HOSTNAME = 64  # the kernel's limit (uname(2)); what it is made of is nobody's business


def _check_config(config: Body) -> None:
    if not config["Cmd"] and not config["Entrypoint"]:
        raise InvalidParameter("no command specified")
    directory = config["WorkingDir"]
    if directory and not directory.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{directory}' is invalid, it needs to be an absolute path"
        )
    if config.get("Healthcheck") and config["Healthcheck"].get("Test") not in (None, [], ["NONE"]):
        raise NotSupported("--health-cmd is not supported by MiniDock")
    hostname = config["Hostname"]
    if len(hostname) > LONGEST_HOSTNAME:
        raise InvalidParameter(f"invalid hostname format: {hostname}")
    if config.get("StopSignal"):
        signal_number(config["StopSignal"])
    for entry in config["Env"]:
        if entry.startswith("=") or "\0" in entry:
            raise InvalidParameter(f"invalid environment variable: {entry!r}")


def _of_endpoint(body: Body) -> Body:
    """What a client says about its network in ``NetworkingConfig``: of the bridge, only a MAC address."""
    found: Body = {}
    endpoints = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    for endpoint in endpoints.values():
        addresses = (endpoint or {}).get("IPAMConfig") or {}
        for key, flag in (("IPv4Address", "--ip"), ("IPv6Address", "--ip6")):
            if addresses.get(key):
                raise NotSupported(
                    f"{flag} is not supported by MiniDock: the bridge gives out the addresses"
                )
        if addresses.get("LinkLocalIPs"):
            raise NotSupported("--link-local-ip is not supported by MiniDock")
        if (endpoint or {}).get("MacAddress"):
            found["MacAddress"] = endpoint["MacAddress"]
    return found


# %% What the host is asked for
_HOST_DEFAULTS: Body = {
    "AutoRemove": False,
    "Binds": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceWriteIOps": [],
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "CapAdd": [],
    "CapDrop": [],
    "CgroupParent": "",
    "CgroupnsMode": "private",
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpuShares": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "DeviceCgroupRules": [],
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
    "OomKillDisable": False,
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
    "StorageOpt": {},
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
    "DeviceRequests": "--gpus",
    "VolumeDriver": "--volume-driver",
    "Annotations": "--annotation",
}


def _check_supported(host: Body) -> None:
    """Refuse by name what would otherwise be ignored."""
    for name, flag in _REFUSED.items():
        if host.get(name):
            raise NotSupported(f"{flag} is not supported by MiniDock")
    if (host.get("Isolation") or "default") != "default":
        raise InvalidParameter(f"invalid isolation '{host['Isolation']}' on linux")
    _check_log(host["LogConfig"])
    check_restart_policy(host["RestartPolicy"])
    foreign.find(host["Runtime"])  # raises for one that nobody knows
    modes.check(host)
    if host["StorageOpt"]:
        raise NotSupported(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, which"
            " MiniDock does not use"
        )


def _check_log(log: Body) -> None:
    driver = log.get("Type") or "json-file"
    if driver != "json-file":
        raise InvalidParameter(
            f"logger: no log driver named '{driver}' is registered (MiniDock has json-file)"
        )
    for option in log.get("Config") or {}:
        raise NotSupported(f"--log-opt {option} is not supported by MiniDock")


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
