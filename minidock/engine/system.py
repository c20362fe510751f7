"""What kind of system this is: ``docker version`` and ``docker info``.

**Interface:** :func:`version`, :func:`info`.

**See:** Engine API, ``SystemVersion``, ``SystemInfo``.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Any

from minidock import __version__, cgroups
from minidock.paths import Paths
from minidock.runtime import foreign
from minidock.spec.timestamp import now

Body = dict[str, Any]

API_VERSION, MINIMUM_API_VERSION = "1.47", "1.24"

GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


# %% The version
def version() -> Body:
    """The API's ``SystemVersion``."""
    uname = os.uname()
    architecture = GO_ARCHITECTURES.get(uname.machine, uname.machine)
    details = {
        "ApiVersion": API_VERSION,
        "Arch": architecture,
        "MinAPIVersion": MINIMUM_API_VERSION,
        "Os": "linux",
        "KernelVersion": uname.release,
        "PythonVersion": platform.python_version(),
    }
    return {
        "Platform": {"Name": "MiniDock"},
        "Components": [{"Name": "Engine", "Version": __version__, "Details": details}],
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MINIMUM_API_VERSION,
        "GitCommit": "",
        "GoVersion": f"(none: Python {platform.python_version()})",
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": uname.release,
        "BuildTime": "",
    }


# %% The rest
def info(
    paths: Paths, driver: tuple[str, list[tuple[str, str]]], statuses: list[str], images: int
) -> Body:
    """The API's ``SystemInfo``; ``driver`` with what it says of itself, ``statuses`` of all containers."""
    uname = os.uname()
    return {
        "ID": _machine_id(),
        "Containers": len(statuses),
        "ContainersRunning": statuses.count("running"),
        "ContainersPaused": 0,
        "ContainersStopped": len(statuses) - statuses.count("running"),
        "Images": images,
        "Driver": driver[0],
        "DriverStatus": [*map(list, driver[1]), ["Image store", "OCI image layout"]],
        "Plugins": {"Volume": [], "Network": ["bridge", "host", "null"], "Log": ["json-file"]},
        "MemoryLimit": True,
        "SwapLimit": True,
        "CpuCfsPeriod": True,
        "CpuCfsQuota": True,
        "CPUShares": True,
        "CPUSet": True,
        "PidsLimit": True,
        "IPv4Forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1",
        "Debug": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "OomKillDisable": cgroups.hierarchy() is not cgroups.Version.V2,
        "NGoroutines": len(os.listdir("/proc/self/task")),
        "SystemTime": now(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if cgroups.hierarchy() is cgroups.Version.V2 else "1",
        "NEventsListener": 0,
        "KernelVersion": uname.release,
        "OperatingSystem": _pretty_name(),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": uname.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "IndexServerAddress": "",
        "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
        "GenericResources": None,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": uname.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": _runtimes(),
        "DefaultRuntime": "minidock",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False},
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "tini",
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "DockerRootDir": str(paths.root),
        "Warnings": [],
    }  # fmt: skip


def _runtimes() -> Body:
    """Our own, and those that ``--runtime`` can name beside it."""
    others = {name: {"path": program} for name, program in foreign.installed().items()}
    return {"minidock": {"path": sys.executable}, **others}


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


def _pretty_name() -> str:
    try:
        return str(platform.freedesktop_os_release()["PRETTY_NAME"])
    except OSError:
        return "Linux"
