"""Limits: what may be asked of a container's share of the machine.

Docker's bounds, in Docker's words, for a new container and for an update of
one that runs.

**Interface:** :func:`check_resources`, :func:`check_restart_policy`,
:func:`refuse_unknown_limits`.

**See:** moby ``daemon/daemon_unix.go``, ``container/hostconfig.go``.
"""

import os
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
