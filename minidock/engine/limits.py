"""Limits: what may be asked of a container's share of the machine.

Docker's bounds, in Docker's words, for a new container and for an update of
one that runs.

**Interface:** :func:`check_resources`, :func:`check_restart_policy`,
:func:`refuse_unknown_limits`.

**See:** moby ``daemon/daemon_unix.go``, ``container/hostconfig.go``.
"""

import os
from pathlib import Path
from typing import Any

from minidock.errors import InvalidParameter, NotSupported

Body = dict[str, Any]

MINIMUM_MEMORY = 6 * 1024 * 1024


# %% Limits that this engine does not know
UNKNOWN_LIMITS = {
    "BlkioWeight": "--blkio-weight",
    "BlkioWeightDevice": "--blkio-weight-device",
    "BlkioDeviceReadBps": "--device-read-bps",
    "BlkioDeviceReadIOps": "--device-read-iops",
    "BlkioDeviceWriteBps": "--device-write-bps",
    "BlkioDeviceWriteIOps": "--device-write-iops",
    "CpuRealtimePeriod": "--cpu-rt-period",
    "CpuRealtimeRuntime": "--cpu-rt-runtime",
}


def refuse_unknown_limits(body: Body) -> None:
    """The same for an update."""
    for name, flag in UNKNOWN_LIMITS.items():
        if body.get(name):
            raise NotSupported(f"{flag} is not supported by MiniDock")


# %% Limits
def check_resources(host: Body) -> None:
    """Docker's bounds, in Docker's words."""
    memory, swap = host["Memory"], host["MemorySwap"]
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
    for key, what in (("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")):
        if host["NanoCpus"] and host[key]:
            raise InvalidParameter(f"Conflicting options: Nano CPUs and {what} cannot both be set")
    if host["CpuPeriod"] and not 1000 <= host["CpuPeriod"] <= 1000000:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if host["CpuQuota"] > 0 and host["CpuQuota"] < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    for kind in ("cpus", "mems"):
        _check_set(kind, host[f"Cpuset{kind.title()}"])
    if not -1000 <= host["OomScoreAdj"] <= 1000:
        raise InvalidParameter(
            f"Invalid value {host['OomScoreAdj']}, range for oom score adj is [-1000, 1000]"
        )
    if host["ShmSize"] < 0:
        raise InvalidParameter("SHM size can not be less than 0")


# %% Processors and memory nodes by number
def _check_set(kind: str, asked: str) -> None:
    """``0-2,5``: which there are, the kernel says in the same way."""
    name, file = ("CPUs", "cpu/online") if kind == "cpus" else ("memory nodes", "node/online")
    try:
        wanted = members(asked)
    except ValueError:
        raise InvalidParameter(
            f"Invalid value {asked} for cpuset {kind}: invalid format: {asked}"
        ) from None
    path = Path("/sys/devices/system", file)
    there = path.read_text().strip() if path.exists() else "0"
    if not wanted <= members(there):
        raise InvalidParameter(
            f"Requested {name} are not available - requested {asked}, available: {there}"
        )


def members(text: str) -> set[int]:
    """The numbers of ``0-2,5``. Raises :class:`ValueError`."""
    found: set[int] = set()
    for word in filter(None, text.split(",")):
        first, dash, last = word.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return found


# %% Restart policies
def check_restart_policy(policy: Body) -> None:
    """Docker's rules and words."""
    name, count = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    if name not in ("no", "always", "on-failure", "unless-stopped"):
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always',"
            " 'on-failure', or 'unless-stopped'"
        )
    if count and name != "on-failure":
        raise InvalidParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
