"""The flags of ``run`` and ``create``, and the request that they become.

**Interface:** :data:`OPTIONS`, :func:`body_of`.

The request is Docker's own, property by property, which a test compares
with what the stock command line sends for the same flags.

**See:** docker/cli ``cli/command/container/opts.go``; Engine API, "Create a
container".
"""

from __future__ import annotations

import os

from minidock.cli.flags import Flag, UsageError, Values, size

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes 1.5 ms to import, and nothing here needs it to run
    from typing import Any

# %% The flags
OPTIONS = [
    Flag("add-host", "", "list", "Add a custom host-to-IP mapping (host:ip)"),
    Flag("attach", "a", "list", "Attach to STDIN, STDOUT or STDERR"),
    Flag("cap-add", "", "list", "Add Linux capabilities"),
    Flag("cap-drop", "", "list", "Drop Linux capabilities"),
    Flag("cgroupns", "", "string", "Cgroup namespace to use (host|private)"),
    Flag("cidfile", "", "string", "Write the container ID to the file"),
    Flag("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    Flag("cpus", "", "float", "Number of CPUs"),
    Flag("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("device", "", "list", "Add a host device to the container"),
    Flag("dns", "", "list", "Set custom DNS servers"),
    Flag("dns-option", "", "list", "Set DNS options"),
    Flag("dns-search", "", "list", "Set custom DNS search domains"),
    Flag("domainname", "", "string", "Container NIS domain name"),
    Flag("entrypoint", "", "string", "Overwrite the default ENTRYPOINT of the image"),
    Flag("env", "e", "list", "Set environment variables"),
    Flag("env-file", "", "list", "Read in a file of environment variables"),
    Flag("expose", "", "list", "Expose a port or a range of ports"),
    Flag("group-add", "", "list", "Add additional groups to join"),
    Flag("hostname", "h", "string", "Container host name"),
    Flag(
        "init",
        "",
        "bool",
        "Run an init inside the container that forwards signals and reaps processes",
    ),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("ipc", "", "string", "IPC mode to use"),
    Flag("label", "l", "list", "Set meta data on a container"),
    Flag("label-file", "", "list", "Read in a line delimited file of labels"),
    Flag("mac-address", "", "string", "Container MAC address"),
    Flag("memory", "m", "bytes", "Memory limit"),
    Flag("memory-reservation", "", "bytes", "Memory soft limit"),
    Flag("memory-swap", "", "bytes", "Swap limit equal to memory plus swap: '-1' for unlimited"),
    Flag("mount", "", "list", "Attach a filesystem mount to the container"),
    Flag("name", "", "string", "Assign a name to the container"),
    Flag("network", "", "string", "Connect a container to a network (bridge, host, none)"),
    Flag("net", "", "string", ""),
    Flag("oom-score-adj", "", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag("pid", "", "string", "PID namespace to use"),
    Flag("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
    Flag("platform", "", "string", "Set platform if server is multi-platform capable"),
    Flag("privileged", "", "bool", "Give extended privileges to this container"),
    Flag("publish", "p", "list", "Publish a container's port(s) to the host"),
    Flag("publish-all", "P", "bool", "Publish all exposed ports to random ports"),
    Flag("pull", "", "string", "Pull image before creating"),
    Flag("read-only", "", "bool", "Mount the container's root filesystem as read only"),
    Flag("restart", "", "string", "Restart policy to apply when a container exits"),
    Flag("rm", "", "bool", "Automatically remove the container when it exits"),
    Flag("runtime", "", "string", "Runtime to use for this container"),
    Flag("security-opt", "", "list", "Security Options"),
    Flag("shm-size", "", "bytes", "Size of /dev/shm"),
    Flag("stop-signal", "", "string", "Signal to stop the container"),
    Flag("stop-timeout", "", "int", "Timeout (in seconds) to stop a container"),
    Flag("sysctl", "", "list", "Sysctl options"),
    Flag("tmpfs", "", "list", "Mount a tmpfs directory"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("ulimit", "", "list", "Ulimit options"),
    Flag("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("userns", "", "string", "User namespace to use"),
    Flag("uts", "", "string", "UTS namespace to use"),
    Flag("volume", "v", "list", "Bind mount a volume"),
    Flag("workdir", "w", "string", "Working directory inside the container"),
]


# %% The request
def body_of(values: Values, rest: list[str], attach: bool) -> dict[str, Any]:
    """The API's request for ``IMAGE [COMMAND…]`` and the flags."""
    image, *command = rest
    wanted = [name.lower() for name in values["attach"]]
    for name in wanted:
        if name not in ("stdin", "stdout", "stderr"):
            raise UsageError(
                f'invalid argument "{name}" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'
            )
    everything = attach and not wanted
    stdin = values["interactive"]
    body: dict[str, Any] = {
        "Hostname": values["hostname"],
        "Domainname": values["domainname"],
        "User": values["user"],
        "AttachStdin": ("stdin" in wanted or everything) and stdin,
        "AttachStdout": "stdout" in wanted or everything,
        "AttachStderr": "stderr" in wanted or everything,
        "Tty": values["tty"],
        "OpenStdin": stdin,
        "StdinOnce": stdin and attach,
        "Env": _environment(values),
        "Cmd": command or None,
        "Image": image,
        "WorkingDir": values["workdir"],
        "Entrypoint": [values["entrypoint"]] if "entrypoint" in values.given else None,
        "Labels": _labels(values),
        "ExposedPorts": _exposed(values),
        "HostConfig": _host(values),
    }
    for name, key in (
        ("stop-signal", "StopSignal"),
        ("stop-timeout", "StopTimeout"),
        ("mac-address", "MacAddress"),
    ):
        if name in values.given:
            body[key] = values[name]
    return body


def _host(values: Values) -> dict[str, Any]:
    from minidock.cli import security, streams

    host: dict[str, Any] = {
        "AutoRemove": values["rm"],
        "Binds": values["volume"] or None,
        "CapAdd": values["cap-add"] or None,
        "CapDrop": values["cap-drop"] or None,
        "CpuPeriod": values["cpu-period"],
        "CpuQuota": values["cpu-quota"],
        "CpuShares": values["cpu-shares"],
        "CpusetCpus": values["cpuset-cpus"],
        "CpusetMems": values["cpuset-mems"],
        "Devices": [_device(text) for text in values["device"]],
        "Dns": values["dns"] or None,
        "DnsOptions": values["dns-option"],
        "DnsSearch": values["dns-search"],
        "ExtraHosts": [_extra_host(text) for text in values["add-host"]] or None,
        "GroupAdd": values["group-add"] or None,
        "IpcMode": values["ipc"] or "private",
        "Memory": values["memory"],
        "MemoryReservation": values["memory-reservation"],
        "MemorySwap": values["memory-swap"],
        "Mounts": [_mount(text) for text in values["mount"]],
        "NanoCpus": round(values["cpus"] * 10**9),
        "NetworkMode": values["network"] or values["net"] or "default",
        "OomScoreAdj": values["oom-score-adj"],
        "PidMode": values["pid"],
        "PidsLimit": values["pids-limit"],
        "PortBindings": _ports(values),
        "Privileged": values["privileged"],
        "PublishAllPorts": values["publish-all"],
        "ReadonlyRootfs": values["read-only"],
        "RestartPolicy": _restart(values["restart"]),
        "SecurityOpt": security.options(values["security-opt"]) or None,
        "ShmSize": values["shm-size"],
        "Sysctls": dict(text.partition("=")[::2] for text in values["sysctl"]),
        "Tmpfs": dict(text.partition(":")[::2] for text in values["tmpfs"]),
        "UTSMode": values["uts"],
        "Ulimits": [_ulimit(text) for text in values["ulimit"]],
        "UsernsMode": values["userns"],
        "CgroupnsMode": values["cgroupns"] or "private",
        "ConsoleSize": list(streams.window_size(1)) if values["tty"] else [0, 0],
    }
    if "init" in values.given:
        host["Init"] = values["init"]
    if values["runtime"]:
        host["Runtime"] = values["runtime"]
    if not host["ShmSize"]:
        del host["ShmSize"]
    return host


# %% Variables and labels
def _environment(values: Values) -> list[str]:
    """``-e NAME`` takes the value from our own environment; ``--env-file`` lines likewise."""
    lines = [line for path in values["env-file"] for line in _file_lines(path)] + values["env"]
    result = []
    for line in lines:
        if line.startswith("=") or not line:
            raise UsageError(
                f'invalid argument "{line}" for "-e, --env" flag: invalid environment variable: {line}'
            )
        if "=" in line:
            result.append(line)
        elif line in os.environ:
            result.append(f"{line}={os.environ[line]}")
    return result


def _labels(values: Values) -> dict[str, str]:
    lines = [line for path in values["label-file"] for line in _file_lines(path)] + values["label"]
    return dict(line.partition("=")[::2] for line in lines)


def _file_lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise UsageError(f"open {path}: {(error.strerror or '').lower()}") from None
    return [line for line in lines if line and not line.startswith("#")]


# %% Ports
def _ports(values: Values) -> dict[str, list[dict[str, str]]]:
    """``[IP:][HOST:]CONTAINER[/PROTOCOL]``, each of the ports may be a range."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for text in values["publish"]:
        rest, _, protocol = text.partition("/")
        before, _, inside = rest.rpartition(":")
        address, _, outside = before.rpartition(":")
        ports = _range(inside, text)
        hosts = [str(port) for port in _range(outside, text)] if outside else [""] * len(ports)
        if len(hosts) != len(ports) and len(ports) != 1:
            raise UsageError(
                f'invalid argument "{text}" for "-p, --publish" flag: invalid ranges specified'
            )
        for port, host in zip(ports, hosts, strict=False):
            key = f"{port}/{protocol or 'tcp'}"
            bindings.setdefault(key, []).append({"HostIp": address.strip("[]"), "HostPort": host})
    return bindings


def _range(text: str, whole: str) -> list[int]:
    first, dash, last = text.partition("-")
    try:
        numbers = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        raise UsageError(
            f'invalid argument "{whole}" for "-p, --publish" flag: invalid containerPort: {text}'
        ) from None
    if not numbers or numbers[0] < 0 or numbers[-1] > 65535:
        raise UsageError(
            f'invalid argument "{whole}" for "-p, --publish" flag: invalid port: {text}'
        )
    return list(numbers)


def _exposed(values: Values) -> dict[str, Any]:
    ports: dict[str, Any] = {key: {} for key in _ports(values)}
    for text in values["expose"]:
        inside, _, protocol = text.partition("/")
        ports |= {f"{port}/{protocol or 'tcp'}": {} for port in _range(inside, text)}
    return ports


# %% The rest
def _extra_host(text: str) -> str:
    name, colon, address = text.replace("=", ":", 1).partition(":")
    if not colon or not address:
        raise UsageError(
            f'invalid argument "{text}" for "--add-host" flag: bad format for add-host: "{text}"'
        )
    return f"{name}:{address}"


def _device(text: str) -> dict[str, str]:
    source, _, rest = text.partition(":")
    target, _, permissions = rest.partition(":")
    if target and set(target) <= set("rwm"):
        target, permissions = "", target
    return {
        "PathOnHost": source,
        "PathInContainer": target or source,
        "CgroupPermissions": permissions or "rwm",
    }


def _restart(text: str) -> dict[str, Any]:
    name, _, count = text.partition(":")
    if count and not count.isdigit():
        raise UsageError("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name or "no", "MaximumRetryCount": int(count or 0)}


def _ulimit(text: str) -> dict[str, Any]:
    name, equals, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    if not equals or not soft.lstrip("-").isdigit() or (hard and not hard.lstrip("-").isdigit()):
        raise UsageError(
            f'invalid argument "{text}" for "--ulimit" flag: invalid ulimit argument: {text}'
        )
    return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}


def _mount(text: str) -> dict[str, Any]:
    """``type=bind,src=…,dst=…[,readonly]`` or ``type=tmpfs,dst=…[,tmpfs-size=…]``."""
    mount: dict[str, Any] = {"Type": "volume"}
    for word in text.split(","):
        key, _, value = word.partition("=")
        key = key.lower()
        if key == "type":
            mount["Type"] = value
        elif key in ("src", "source"):
            mount["Source"] = value
        elif key in ("dst", "destination", "target"):
            mount["Target"] = value
        elif key in ("ro", "readonly"):
            mount["ReadOnly"] = value.lower() in ("", "1", "true")
        elif key == "bind-propagation":
            mount["BindOptions"] = {"Propagation": value}
        elif key == "tmpfs-size":
            mount.setdefault("TmpfsOptions", {})["SizeBytes"] = size(value)
        elif key == "tmpfs-mode":
            mount.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)
        else:
            raise UsageError(
                f"invalid argument \"{text}\" for \"--mount\" flag: unexpected key '{key}' in '{word}'"
            )
    if not mount.get("Target"):
        raise UsageError(f'invalid argument "{text}" for "--mount" flag: target is required')
    return mount
