"""How a container looks to a Docker client: the long form and the short.

Nothing is decided here; it is the shape of the Engine API, property by
property, so that ``docker inspect`` and ``docker ps`` find what they expect.

**Interface:** :func:`inspect`, :func:`summary`, :func:`matches`.

**See:** Engine API, ``ContainerInspectResponse``, ``ContainerSummary``;
go-units ``HumanDuration`` for the words of the status.
"""

import time
from collections.abc import Callable
from typing import Any

from minidock.engine.container import Container
from minidock.errors import InvalidParameter
from minidock.network import Endpoint, Network
from minidock.spec.timestamp import parse_time

Body = dict[str, Any]


# %% The long form: docker inspect
def inspect(container: Container, bridge: Network, execs: list[str], driver: str) -> Body:
    """The API's ``ContainerInspectResponse``."""
    config = container.config
    command: list[str] = [*(config["Entrypoint"] or []), *(config["Cmd"] or [])]
    directory = container.directory
    config["Hostname"] = config["Hostname"] or container.id[:12]
    return {
        "Id": container.id,
        "Created": container.record["Created"],
        "Path": command[0],
        "Args": command[1:],
        "State": container.as_state(),
        "Image": container.record["Image"],
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": str(directory / "log"),
        "Name": f"/{container.name}",
        "RestartCount": int(container.state.get("restarts", 0)),
        "Driver": driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": execs or None,
        "HostConfig": container.host_config,
        "GraphDriver": {
            "Name": driver,
            "Data": {"MergedDir": str(directory / "rootfs")},
        },
        "Mounts": _mounts(container),
        "Config": config,
        "NetworkSettings": network_settings(container, bridge),
    }


def _mounts(container: Container) -> list[Body]:
    """The API's ``MountPoint`` objects."""
    return [
        {
            "Type": mount["Type"],
            "Source": mount.get("Source", ""),
            "Destination": mount["Target"],
            "Mode": mount.get("Mode", ""),
            "RW": not mount.get("ReadOnly", False),
            "Propagation": mount.get("Propagation", ""),
        }
        for mount in container.host_config["Mounts"]
    ]


# %% Networks and ports
def network_settings(container: Container, bridge: Network) -> Body:
    """The API's ``NetworkSettings``, in the old flat form and the new one by network."""
    endpoint = container.endpoint
    settings = _endpoint(endpoint)
    networks = {network_name(container): {**settings, **_names(container, bridge)}}
    return {
        "Bridge": "",
        "SandboxID": container.id if container.running else "",
        "SandboxKey": "",
        "Ports": port_map(container),
        **settings,
        "Networks": networks,
    }


def _endpoint(endpoint: Endpoint | None) -> Body:
    return {
        "EndpointID": "",
        "Gateway": endpoint.gateway if endpoint else "",
        "IPAddress": endpoint.address if endpoint else "",
        "IPPrefixLen": endpoint.prefix_length if endpoint else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": endpoint.mac if endpoint else "",
    }


def _names(container: Container, bridge: Network) -> Body:
    name = network_name(container)
    known = bridge.inspect()["Id"] if name == "bridge" else name
    return {
        "NetworkID": known,
        "Links": None,
        "Aliases": None,
        "IPAMConfig": None,
        "DriverOpts": None,
        "DNSNames": None,
    }


def network_name(container: Container) -> str:
    """``bridge``, ``host``, ``none`` or ``container:…``."""
    mode = str(container.host_config["NetworkMode"])
    return "bridge" if mode == "default" else mode


def port_map(container: Container) -> Body:
    """The API's ``PortMap``: which port of the container is which of the host, as things are."""
    ports: Body = dict.fromkeys(container.config.get("ExposedPorts") or {})
    for port in container.endpoint.ports if container.endpoint else ():
        key = f"{port.container_port}/{port.protocol}"
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        ports[key] = [*(ports.get(key) or []), binding]
    return ports


def _port_list(container: Container) -> list[Body]:
    result: list[Body] = []
    for key, bindings in port_map(container).items():
        number, _, protocol = key.partition("/")
        private = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        if not bindings:
            result.append(private)
        for binding in bindings or ():
            public = {"IP": binding["HostIp"], "PublicPort": int(binding["HostPort"])}
            result.append({**private, **public})
    return result


# %% The short form: docker ps
def summary(container: Container, bridge: Network) -> Body:
    """The API's ``ContainerSummary``."""
    config, name = container.config, network_name(container)
    command = [*(config["Entrypoint"] or []), *(config["Cmd"] or [])]
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": config["Image"],
        "ImageID": container.record["Image"],
        "Command": " ".join(f"'{word}'" if " " in word else word for word in command),
        "Created": parse_time(container.record["Created"]) // 10**9,
        "Ports": _port_list(container),
        "Labels": config["Labels"],
        "State": container.status,
        "Status": status_text(container),
        "HostConfig": {"NetworkMode": container.host_config["NetworkMode"]},
        "NetworkSettings": {
            "Networks": {name: {**_endpoint(container.endpoint), **_names(container, bridge)}}
        },
        "Mounts": _mounts(container),
    }


def status_text(container: Container) -> str:
    """``Up 3 minutes``, ``Exited (0) 2 hours ago``, ``Created``."""
    if container.status == "restarting":
        ago = human_duration(_age(container.state["finished_at"]))
        return f"Restarting ({container.exit_code}) {ago} ago"
    if container.running:
        paused = " (Paused)" if container.status == "paused" else ""
        return f"Up {human_duration(_age(container.state['started_at']))}{paused}"
    if container.status == "exited":
        ago = human_duration(_age(container.state["finished_at"]))
        return f"Exited ({container.exit_code}) {ago} ago"
    return "Removal In Progress" if container.removing else "Created"


def _age(moment: str) -> float:
    return max(0.0, time.time() - parse_time(moment) / 1e9)


def human_duration(seconds: float) -> str:
    """A length of time in Docker's words, rounded as Docker rounds."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    minutes, hours = whole // 60, round(whole / 3600)
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, length, unit in (
        (48, 1, "hours"),
        (336, 24, "days"),
        (1440, 168, "weeks"),
    ):
        if hours < limit:
            return f"{hours // length} {unit}"
    return f"{hours // 720} months" if hours < 17520 else f"{hours // 8760} years"


# %% Filters: docker ps --filter
def matches(container: Container, filters: dict[str, list[str]], all_: list[Container]) -> bool:
    """Whether every filter has a value that fits. Raises for a filter nobody knows."""
    for name, values in filters.items():
        check = _FILTERS.get(name)
        _check_filter(name, values)
        if check is None and name not in ("before", "since"):
            raise InvalidParameter(f"invalid filter '{name}'")
        if check is None:
            fits = any(_older(container, name, value, all_) for value in values)
        elif name == "label":
            fits = all(check(container, value) for value in values)
        else:
            fits = any(check(container, value) for value in values)
        if not fits:
            return False
    return True


STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


def _check_filter(name: str, values: list[str]) -> None:
    for value in values:
        if name == "status" and value not in STATUSES:
            raise InvalidParameter(f"invalid filter 'status={value}'")
        if name == "exited" and not value.lstrip("-").isdigit():
            raise InvalidParameter(f'strconv.Atoi: parsing "{value}": invalid syntax')


def _has_label(container: Container, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    labels = container.config["Labels"]
    return name in labels and (not equals or labels[name] == value)


def _older(container: Container, name: str, value: str, all_: list[Container]) -> bool:
    for other in all_:
        if other.name == value.lstrip("/") or other.id.startswith(value):
            ours, its = str(container.record["Created"]), str(other.record["Created"])
            return ours < its if name == "before" else ours > its
    raise InvalidParameter(f"No such container: {value}")


def _has_ancestor(container: Container, value: str) -> bool:
    image, name = container.record["Image"], container.config["Image"]
    bare = image.removeprefix("sha256:")
    return bool(name in (value, f"{value}:latest") or image == value or bare.startswith(value))


_FILTERS: dict[str, Callable[[Container, str], bool]] = {
    "id": lambda c, value: c.id.startswith(value),
    "name": lambda c, value: (
        value.lstrip("/") in c.name or value.lstrip("^/").rstrip("$") == c.name
    ),
    "status": lambda c, value: c.status == value,
    "label": _has_label,
    "exited": lambda c, value: c.status == "exited" and str(c.exit_code) == value,
    "ancestor": _has_ancestor,
    "network": lambda c, value: network_name(c) == value,
    "volume": lambda c, value: any(
        value in (m["Target"], m.get("Source")) for m in c.host_config["Mounts"]
    ),
    "publish": lambda c, value: any(
        value.partition("/")[0] == str(p.get("PublicPort")) for p in _port_list(c)
    ),
    "expose": lambda c, value: any(
        value.partition("/")[0] == str(p["PrivatePort"]) for p in _port_list(c)
    ),
    "health": lambda c, value: value == "none",
    "is-task": lambda c, value: value in ("false", "0"),
}
