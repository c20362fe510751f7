"""Statistics: what a container uses, read from its cgroup and its network.

**Interface:** :func:`sample`.

Processor time is a counter, so a share of it is the difference of two
samples; and of the host's own counter, as the machine may have been busy
with something else.

The trap: the counters of the network belong to a *namespace*. The host sees
them where a process of the container lives, in ``/proc/<pid>/net/dev``.

**See:** proc_stat(5), proc_pid_net(5); Engine API, "Get container stats".
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from minidock import cgroups
from minidock.engine.container import Container
from minidock.spec.timestamp import ZERO, format_time

Body = dict[str, Any]


# %% A sample
def sample(container: Container) -> Body:
    """The API's ``ContainerStatsResponse`` without the values before; all zero when it does not run."""
    stats: Body = {
        "id": container.id,
        "name": f"/{container.name}",
        "read": ZERO,
        "preread": ZERO,
        "num_procs": 0,
        "pids_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": None},
        "cpu_stats": _processors(0, 0),
        "precpu_stats": _processors(0, 0),
        "memory_stats": {},
        "networks": {},
    }
    if not container.running or container.status == "restarting":
        return stats
    cgroup = cgroups.open(container.cgroup)
    with suppress(FileNotFoundError):  # it ends as we look
        used = cgroup.stats()
        stats |= {
            "read": format_time(time.time_ns()),
            "cpu_stats": _processors(used.cpu, _host_time()),
            "memory_stats": {
                "usage": used.memory,
                "limit": _memory(used.memory_limit),
                "stats": {},
            },
            "pids_stats": {"current": used.pids},
            "networks": _networks(container.pid),
            "blkio_stats": {"io_service_bytes_recursive": cgroup.transferred()},
        }
    return stats


def _processors(used: int, host: int) -> Body:
    return {
        "cpu_usage": {"total_usage": used, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "system_cpu_usage": host,
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


# %% The host's counters
def _host_time() -> int:
    """What all processors of the host have done and left undone, in nanoseconds."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks) * (10**9 // os.sysconf("SC_CLK_TCK"))


def _memory(limit: int) -> int:
    """Without a limit it is all that the host has."""
    return min(limit, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _networks(pid: int) -> Body:
    """By device: the first eight columns are what came in, the next eight what went out."""
    found: Body = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]:
            name, _, columns = line.partition(":")
            numbers = [int(word) for word in columns.split()]
            if name.strip() == "lo":
                continue
            found[name.strip()] = {
                f"{way}_{what}": numbers[start + place]
                for way, start in (("rx", 0), ("tx", 8))
                for place, what in enumerate(("bytes", "packets", "errors", "dropped"))
            }
    return found
