"""From the flags of ``run`` and ``create`` to the request.

The request is Docker's own, property by property, which a test compares
with what the stock command line sends for the same flags. A property that
is absent means the same to the daemon as one that is empty, so only what
has a value is sent.

**Interface:** :func:`body_of`, :func:`check_pull`, :func:`variables_of`.

**See:** docker/cli ``cli/command/container/opts.go``; Engine API, "Create a
container".
"""

from __future__ import annotations

import os

from minidock.cli import values as convert
from minidock.cli.flags import OptionError, Values

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from collections.abc import Callable
    from typing import Any

    Body = dict[str, Any]


# %% The request
def body_of(values: Values, rest: list[str], attach: bool) -> Body:
    """The API's request for ``IMAGE [COMMAND…]`` and the flags; ``attach`` unless it is detached."""
    image, *command = rest
    wanted = values["attach"] or (["stdout", "stderr"] if attach else [])
    stdin = "stdin" in wanted or (attach and values["interactive"])
    published = _published(values)
    binds, anonymous = _volumes(values)
    body: Body = {
        "Hostname": values["hostname"],
        "Domainname": values["domainname"],
        "User": values["user"],
        "AttachStdin": stdin,
        "AttachStdout": "stdout" in wanted,
        "AttachStderr": "stderr" in wanted,
        "Tty": values["tty"],
        "OpenStdin": values["interactive"],
        "StdinOnce": values["interactive"] and stdin,
        "Env": [*variables_of(values["env-file"]), *values["env"]],
        "Cmd": command or None,
        "Image": image,
        "Volumes": anonymous,
        "WorkingDir": values["workdir"],
        "Entrypoint": [values["entrypoint"]] if "entrypoint" in values.given else None,
        "Labels": _labels(values),
        "ExposedPorts": _exposed(values, published),
        "StopSignal": values["stop-signal"],
        "Healthcheck": _health(values),
        "HostConfig": {**_host(values), "Binds": binds, "PortBindings": published},
        "NetworkingConfig": _networking(values),
    }
    if "stop-timeout" in values.given:
        body["StopTimeout"] = values["stop-timeout"]
    return {name: value for name, value in body.items() if value not in (None, "", [], {})}


# %% The host's part of it
_PLAIN = {
    "AutoRemove": "rm",
    "BlkioWeight": "blkio-weight",
    "BlkioWeightDevice": "blkio-weight-device",
    "BlkioDeviceReadBps": "device-read-bps",
    "BlkioDeviceReadIOps": "device-read-iops",
    "BlkioDeviceWriteBps": "device-write-bps",
    "BlkioDeviceWriteIOps": "device-write-iops",
    "CgroupParent": "cgroup-parent",
    "CgroupnsMode": "cgroupns",
    "ContainerIDFile": "cidfile",
    "CpuPeriod": "cpu-period",
    "CpuQuota": "cpu-quota",
    "CpuRealtimePeriod": "cpu-rt-period",
    "CpuRealtimeRuntime": "cpu-rt-runtime",
    "CpuShares": "cpu-shares",
    "CpusetCpus": "cpuset-cpus",
    "CpusetMems": "cpuset-mems",
    "DeviceCgroupRules": "device-cgroup-rule",
    "DeviceRequests": "gpus",
    "Dns": "dns",
    "DnsSearch": "dns-search",
    "ExtraHosts": "add-host",
    "GroupAdd": "group-add",
    "IpcMode": "ipc",
    "Isolation": "isolation",
    "Links": "link",
    "Memory": "memory",
    "MemoryReservation": "memory-reservation",
    "MemorySwap": "memory-swap",
    "Mounts": "mount",
    "NanoCpus": "cpus",
    "OomKillDisable": "oom-kill-disable",
    "OomScoreAdj": "oom-score-adj",
    "PidMode": "pid",
    "PidsLimit": "pids-limit",
    "Privileged": "privileged",
    "PublishAllPorts": "publish-all",
    "ReadonlyRootfs": "read-only",
    "Runtime": "runtime",
    "ShmSize": "shm-size",
    "UTSMode": "uts",
    "Ulimits": "ulimit",
    "UsernsMode": "userns",
    "VolumeDriver": "volume-driver",
    "VolumesFrom": "volumes-from",
}


def _host(values: Values) -> Body:
    _check_modes(values)
    host = {key: values[name] for key, name in _PLAIN.items() if values[name]}
    host |= _security(values)
    networks = _networks(values)
    host["NetworkMode"] = networks[0]["name"] if networks else "default"
    host["RestartPolicy"] = _restart(values)
    host["Devices"] = [_or_option_error(convert.device, text) for text in values["device"]]
    for key, name in (("CapAdd", "cap-add"), ("CapDrop", "cap-drop")):
        host[key] = [_capability(text) for text in values[name]]
    host["DnsOptions"] = [*values["dns-option"], *values["dns-opt"]]
    host["LogConfig"] = {"Type": values["log-driver"], "Config": _pairs(values["log-opt"])}
    for key, name in (("Sysctls", "sysctl"), ("Annotations", "annotation")):
        host[key] = _pairs(values[name])
    host["StorageOpt"] = _storage(values["storage-opt"])
    if values["tmpfs"]:
        from minidock.cli.mounts import tmpfs

        host["Tmpfs"] = tmpfs(values["tmpfs"])
    if "memory-swappiness" in values.given:
        host["MemorySwappiness"] = _swappiness(values["memory-swappiness"])
    if values["tty"]:
        from minidock.cli.streams import window_size

        host["ConsoleSize"] = list(window_size(1))
    if "init" in values.given:
        host["Init"] = values["init"]
    empty: tuple[Any, ...] = (None, "", [], {})
    keep = ("MaskedPaths", "ReadonlyPaths")  # an empty list is a wish here
    return {key: value for key, value in host.items() if value not in empty or key in keep}


def limits_of(values: Values) -> Body:
    """What ``update`` asks for: the limits that were given, and a restart policy."""
    limits = {key: name for key, name in _PLAIN.items() if name in values.given}
    body: Body = {key: values[name] for key, name in limits.items()}
    if "restart" in values.given:
        body["RestartPolicy"] = _restart(values)
    return body


# %% Checks that the daemon would make, but Docker's command line makes first
def _or_option_error(act: Callable[[str], Any], text: str) -> Any:
    try:
        return act(text)
    except ValueError as error:
        raise OptionError(str(error)) from None


_MODES = {
    "pid": (("", "host"), "PID"),
    "uts": (("", "host"), "UTS"),
    "userns": (("", "host"), "USER"),
    "cgroupns": (("", "host", "private"), "CGROUP"),
}


def _check_modes(values: Values) -> None:
    for name, (known, kind) in _MODES.items():
        mode = values[name]
        other = name == "pid" and mode.startswith("container:") and mode != "container:"
        if mode not in known and not other:
            raise OptionError(f"--{name}: invalid {kind} mode")
    if values["rm"] and values["restart"] not in ("", "no"):
        raise OptionError("conflicting options: cannot specify both --restart and --rm")


def _swappiness(number: int) -> int:
    if not -1 <= number <= 100:
        raise OptionError(f"invalid value: {number}. Valid memory swappiness range is 0-100")
    return number


def check_pull(values: Values) -> None:
    """``--pull`` is one of three words."""
    if values["pull"] not in ("always", "missing", "never", ""):
        raise OptionError(
            f"invalid pull option: '{values['pull']}': must be one of"
            ' "always", "missing" or "never"'
        )


def _restart(values: Values) -> Body:
    return dict(_or_option_error(convert.restart_policy, values["restart"]))


def _capability(text: str) -> str:
    name = text.strip().upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def _pairs(texts: list[str]) -> dict[str, str]:
    return dict(text.partition("=")[::2] for text in texts)


def _storage(texts: list[str]) -> dict[str, str]:
    if any("=" not in text for text in texts):
        raise OptionError("invalid storage option")
    return _pairs(texts)


def _security(values: Values) -> Body:
    """``systempaths=unconfined`` is the command line's own word for two empty lists."""
    given = [_or_option_error(convert.security_option, text) for text in values["security-opt"]]
    open_paths = "systempaths=unconfined"
    host: Body = {"SecurityOpt": [text for text in given if text != open_paths]}
    return {**host, "MaskedPaths": [], "ReadonlyPaths": []} if open_paths in given else host


# %% Variables, labels, health
def variables_of(paths: list[str]) -> list[str]:
    """Lines of files; ``NAME`` takes its value from our own environment, or is left out."""
    found = []
    for path in paths:
        for line in _lines([path]):
            name, equals, _ = line.partition("=")
            if not name:
                raise OptionError(f"invalid env file ({path}): no variable name on line '{line}'")
            if any(letter.isspace() for letter in name):
                raise OptionError(
                    f"invalid env file ({path}): variable '{name}' contains whitespaces"
                )
            if equals:
                found.append(line)
            elif name in os.environ:
                found.append(f"{name}={os.environ[name]}")
    return found


def _labels(values: Values) -> dict[str, str]:
    in_files = [line for line in _lines(values["label-file"]) if "=" in line]
    return _pairs([*in_files, *values["label"]])


def _lines(paths: list[str]) -> list[str]:
    found: list[str] = []
    for path in paths:
        try:
            with open(path) as file:
                found += [line.lstrip().removesuffix("\n") for line in file]
        except OSError as error:
            raise OptionError(f"open {path}: {(error.strerror or '').lower()}") from None
    return [line for line in found if line and not line.startswith("#")]


_HEALTH = {
    "health-interval": "Interval",
    "health-timeout": "Timeout",
    "health-start-period": "StartPeriod",
    "health-start-interval": "StartInterval",
    "health-retries": "Retries",
}


def _health(values: Values) -> Body | None:
    asked = {key: values[name] for name, key in _HEALTH.items() if values[name]}
    command = values["health-cmd"]
    if values["no-healthcheck"]:
        if asked or command:
            raise OptionError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    for name, key in _HEALTH.items():
        if asked.get(key, 0) < 0:
            raise OptionError(f"--{name} cannot be negative")
    return {**({"Test": ["CMD-SHELL", command]} if command else {}), **asked} or None


# %% Networks, ports, volumes
def _networks(values: Values) -> list[dict[str, Any]]:
    """Each ``--network``: a name, or ``name=…,alias=…``."""
    return [_network(text) for text in [*values["network"], *values["net"]]]


def _network(text: str) -> dict[str, Any]:
    if "=" not in text:
        if not text:
            raise OptionError("no name set for network")
        return {"name": text, "alias": []}
    made: dict[str, Any] = {"alias": []}
    for field in text.split(","):
        key, _, value = field.partition("=")
        if key == "alias":
            made["alias"].append(value)
        elif key in ("name", "ip", "ip6", "mac-address"):
            made[key] = value
        else:
            raise OptionError(f"invalid field key {key}")
    if not made.get("name"):
        raise OptionError("network name/id is not specified")
    return made


def _networking(values: Values) -> Body | None:
    """The API's ``NetworkingConfig``, if there is anything to say about an endpoint."""
    networks = _networks(values) or [{"name": "default", "alias": []}]
    first = networks[0]
    aliases = [*values["network-alias"], *values["net-alias"]]
    if aliases and first["name"] in ("default", "bridge", "host", "none"):
        raise OptionError("network-scoped aliases are only supported for user-defined networks")
    first["alias"] = [*first["alias"], *aliases]
    for key, flag in (("ip", "ip"), ("ip6", "ip6"), ("mac-address", "mac-address")):
        if values[flag]:
            first[key] = values[flag]
    first["local"] = values["link-local-ip"]
    endpoints = {one["name"]: _endpoint(one) for one in networks}
    return {"EndpointsConfig": endpoints} if any(endpoints.values()) else None


def _endpoint(network: dict[str, Any]) -> Body:
    mac = network.get("mac-address", "")
    octets = mac.split(":")
    if mac and not (len(octets) == 6 and all(len(o) == 2 and o.isalnum() for o in octets)):
        raise OptionError(f"{mac} is not a valid mac address")
    addresses = {
        "IPv4Address": network.get("ip"),
        "IPv6Address": network.get("ip6"),
        "LinkLocalIPs": network.get("local"),
    }
    addresses = {key: value for key, value in addresses.items() if value}
    made = {"Aliases": network["alias"], "MacAddress": mac, "IPAMConfig": addresses}
    return {key: value for key, value in made.items() if value}


def _published(values: Values) -> dict[str, list[dict[str, str]]]:
    if not values["publish"]:
        return {}
    from minidock.cli.ports import bindings

    return bindings(values["publish"])


def _exposed(values: Values, published: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    if not (published or values["expose"]):
        return {}
    from minidock.cli.ports import exposed

    return exposed(values["expose"], published)


def _volumes(values: Values) -> tuple[list[str], dict[str, Any]]:
    if not values["volume"]:
        return [], {}
    from minidock.cli.mounts import volumes

    return volumes(values["volume"])
