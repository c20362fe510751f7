"""Limits: from ``--memory`` and its kin to what the cgroup is told.

**Interface:** :func:`check`, :func:`warnings`, :func:`resources`,
:func:`rlimits`, :func:`oom_score`.

The traps. Docker's numbers have defaults of their own: with ``--memory`` there
is as much swap again unless ``--memory-swap`` says otherwise, and -1 means
"without limit" in one place and "as it is" in another. And a limit that this
host cannot keep must not seem to be kept: it is refused, or, where Docker
goes on without it, goes on with a warning.

**See:** docker run reference, "Runtime constraints on resources"; moby
``daemon/daemon_unix.go``, ``verifyPlatformContainerResources``, whose words
the messages are.
"""

import os
import resource
from collections.abc import Sequence
from typing import Any

from minidock import cgroups
from minidock.capabilities import NUMBERS, host_bounding_set
from minidock.engine.limits import check_set
from minidock.errors import InvalidParameter
from minidock.spec import resources as disks
from minidock.spec import runtime as oci

Host = dict[str, Any]  # the API's HostConfig

MINIMUM_MEMORY = 6 * 1024 * 1024


# %% Bounds of memory
def check(host: Host) -> None:
    """Docker's bounds, in Docker's words. Raises :class:`InvalidParameter`."""
    _check_memory(host)
    _check_processors(host)
    _check_disks(host)
    _check_ulimits(host)
    if not -1000 <= host["OomScoreAdj"] <= 1000:
        raise InvalidParameter(
            f"Invalid value {host['OomScoreAdj']}, range for oom score adj is [-1000, 1000]"
        )
    if host["ShmSize"] < 0:
        raise InvalidParameter("SHM size can not be less than 0")


def _check_memory(host: Host) -> None:
    memory, swap, reservation = host["Memory"], host["MemorySwap"], host["MemoryReservation"]
    if 0 < memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if memory < 0:
        raise InvalidParameter(f"invalid memory limit: {memory}")
    if swap > 0 and not memory:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < swap < memory:
        raise InvalidParameter(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if 0 < reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if memory and reservation > memory:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit")
    swappiness = host["MemorySwappiness"]
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidParameter(
            f"Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )
    if host.get("KernelMemory"):
        raise InvalidParameter(
            "kernel memory is not supported: Linux keeps no such limit any more (use --memory)"
        )


# %% Bounds of processors
def _check_processors(host: Host) -> None:
    cpus = os.cpu_count() or 1
    nano, period, quota = host["NanoCpus"], host["CpuPeriod"], host["CpuQuota"]
    if nano and not 10**7 <= nano <= cpus * 10**9:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    for value, what in ((period, "CPU Period"), (quota, "CPU Quota")):
        if nano and value:
            raise InvalidParameter(f"Conflicting options: Nano CPUs and {what} cannot both be set")
    if period and not 1000 <= period <= 1000000:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    for kind in ("cpus", "mems"):
        check_set(kind, host[f"Cpuset{kind.title()}"])
    runtime, real_period = host["CpuRealtimeRuntime"], host["CpuRealtimePeriod"]
    if real_period and runtime > real_period:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")


# %% Bounds of disks and of single processes
def _check_disks(host: Host) -> None:
    weights = [host["BlkioWeight"], *(one["Weight"] for one in host["BlkioWeightDevice"] or [])]
    if any(weight and not 10 <= weight <= 1000 for weight in weights):
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    _disks(host)  # a path that is no disk


def _check_ulimits(host: Host) -> None:
    for limit in host["Ulimits"] or []:
        name, soft, hard = limit["Name"], limit["Soft"], limit["Hard"]
        if not hasattr(resource, f"RLIMIT_{name.upper()}"):
            raise InvalidParameter(f"invalid ulimit type: {name}")
        if hard != -1 and (soft > hard or soft == -1):
            raise InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )


# %% What will be less than was asked for
def warnings(host: Host) -> list[str]:
    """What ``create`` tells the caller: asked for, and not to be had on this host."""
    found = []
    names = host["CapAdd"] or []
    wanted = {
        name.upper() if name.upper()[:4] == "CAP_" else f"CAP_{name.upper()}" for name in names
    }
    missing = [name for name in sorted(wanted) if name in NUMBERS and not _host_has(name)]
    found += [f"{name} is not granted: this host does not have it" for name in missing]
    for limit in host["Ulimits"] or []:
        granted = _granted(limit)
        if (granted.soft, granted.hard) != (limit["Soft"], limit["Hard"]):
            found.append(
                f"ulimit {limit['Name']} is cut to {granted.soft}:{granted.hard}: this host lacks"
                " CAP_SYS_RESOURCE"
            )
    if oom_score(host) is None and host["OomScoreAdj"]:
        found.append(
            "OomScoreAdj discarded: lowering it needs CAP_SYS_RESOURCE, which this host lacks"
        )
    if host["OomKillDisable"]:
        found += _oom_kill_warnings(host)
    if _swappiness(host) is None and host["MemorySwappiness"] not in (None, -1):
        found.append(
            "Your kernel does not support memory swappiness capabilities. Swappiness discarded."
        )
    return found


def _oom_kill_warnings(host: Host) -> list[str]:
    if cgroups.hierarchy() is cgroups.Version.V2:
        return ["Your kernel does not support OomKillDisable. OomKillDisable discarded."]
    if not host["Memory"]:
        return [
            "OOM killer is disabled for the container, but no memory limit is set, this can result"
            " in the system running out of resources."
        ]
    return []


def _host_has(capability: str) -> bool:
    return bool(host_bounding_set() >> NUMBERS[capability] & 1)


# %% Limits of single processes
def oom_score(host: Host) -> int | None:
    """``--oom-score-adj``; None where it would have to be lowered, and this host may not."""
    wanted: int = host["OomScoreAdj"]
    with open("/proc/self/oom_score_adj") as file:
        ours = int(file.read())
    return wanted if wanted >= ours or _host_has("CAP_SYS_RESOURCE") else None


def rlimits(host: Host) -> tuple[oci.Rlimit, ...]:
    """``--ulimit``, as far as this host can grant it."""
    return tuple(_granted(limit) for limit in host["Ulimits"] or [])


def _granted(limit: dict[str, Any]) -> oci.Rlimit:
    """A hard limit may be raised only with CAP_SYS_RESOURCE; without, what we have is the most."""
    name, soft, hard = f"RLIMIT_{limit['Name'].upper()}", limit["Soft"], limit["Hard"]
    _, ceiling = resource.getrlimit(getattr(resource, name))
    if ceiling == resource.RLIM_INFINITY or _host_has("CAP_SYS_RESOURCE"):
        return oci.Rlimit(name, soft, hard)
    return oci.Rlimit(name, _at_most(soft, ceiling), _at_most(hard, ceiling))


def _at_most(value: int, ceiling: int) -> int:
    return ceiling if value == -1 else min(value, ceiling)


# %% What the cgroup is told
def resources(host: Host, devices: Sequence[oci.DeviceRule]) -> oci.Resources:
    """The limits; absent where none was asked for, so that a missing controller does no harm."""
    return oci.Resources(
        devices=tuple(devices),
        memory=_memory(host),
        cpu=_cpu(host),
        pids=oci.Pids(host["PidsLimit"]) if host["PidsLimit"] else None,
        block_io=_disks(host),
    )


def _memory(host: Host) -> oci.Memory | None:
    limit, swap = host["Memory"], host["MemorySwap"]
    never_kill = host["OomKillDisable"] and cgroups.hierarchy() is not cgroups.Version.V2
    memory = oci.Memory(
        limit=limit or None,
        reservation=host["MemoryReservation"] or None,
        swap=(swap or None) if limit else None,
        swappiness=_swappiness(host),
        disable_oom_killer=True if never_kill else None,
    )
    return None if memory == oci.Memory() else memory


def _swappiness(host: Host) -> int | None:
    """Version 2 has none for a single group."""
    value: int | None = host["MemorySwappiness"]
    return None if value == -1 or cgroups.hierarchy() is cgroups.Version.V2 else value


def _cpu(host: Host) -> oci.CPU | None:
    period, quota = host["CpuPeriod"], host["CpuQuota"]
    if host["NanoCpus"]:
        period, quota = 100000, host["NanoCpus"] * 100000 // 10**9
    cpu = oci.CPU(
        shares=host["CpuShares"] or None,
        quota=quota or None,
        period=period or None,
        realtime_runtime=host["CpuRealtimeRuntime"] or None,
        realtime_period=host["CpuRealtimePeriod"] or None,
        cpus=host["CpusetCpus"],
        mems=host["CpusetMems"],
    )
    return None if cpu == oci.CPU() else cpu


# %% Disks
def _disks(host: Host) -> disks.BlockIO | None:
    """The kernel knows a disk by its numbers; people know it by a path in ``/dev``."""
    weights = tuple(
        disks.WeightDevice(*_numbers(one["Path"]), one["Weight"])
        for one in host["BlkioWeightDevice"] or []
    )
    limits = disks.BlockIO(
        weight=host["BlkioWeight"] or None,
        weight_device=weights,
        throttle_read_bps_device=_rates(host["BlkioDeviceReadBps"]),
        throttle_write_bps_device=_rates(host["BlkioDeviceWriteBps"]),
        throttle_read_iops_device=_rates(host["BlkioDeviceReadIOps"]),
        throttle_write_iops_device=_rates(host["BlkioDeviceWriteIOps"]),
    )
    return None if limits == disks.BlockIO() else limits


def _rates(devices: list[dict[str, Any]] | None) -> tuple[disks.ThrottleDevice, ...]:
    return tuple(disks.ThrottleDevice(*_numbers(one["Path"]), one["Rate"]) for one in devices or [])


def _numbers(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidParameter(f"{path}: {(error.strerror or '').lower()}") from None
    if status.st_mode & 0o170000 != 0o060000:
        raise InvalidParameter(f"{path}: not a block device (a disk, not a partition, is limited)")
    return os.major(status.st_rdev), os.minor(status.st_rdev)
