"""What a container uses, as ``events`` tells it.

The form is runc's (and so containerd's): numbers by controller, read from
the files of the cgroup.

The trap is a controller that this host has not got: its part is left empty,
and the rest is told all the same.

**Interface:** :func:`statistics`.

**See:** cgroups(7); runc ``types/events.go``.
"""

import os
from contextlib import suppress
from typing import Any

from minidock.cgroups import Cgroup, keyed, read

UNLIMITED = 2**64 - 1


# %% The whole
def statistics(cgroup: Cgroup) -> dict[str, Any]:
    """The ``data`` of an event of type ``stats``."""
    places = cgroup.by_controller()
    if "memory" in places or "cpu" in places:
        return _version_1(places)
    return _version_2(places[""])


def number(path: str) -> int:
    """A file with one number; ``max`` is all there is, a missing file nothing."""
    with suppress(OSError):
        text = read(path).strip()
        return UNLIMITED if text == "max" else int(text)
    return 0


def table(path: str) -> dict[str, int]:
    """A file of lines ``name number``."""
    with suppress(OSError):
        return keyed(path)
    return {}


# %% Version 1
def _version_1(places: dict[str, str]) -> dict[str, Any]:
    cpu, account = places.get("cpu", ""), places.get("cpuacct", "")
    memory, pids = places.get("memory", ""), places.get("pids", "")
    throttling = table(f"{cpu}/cpu.stat")
    used = table(f"{account}/cpuacct.stat")
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    per_cpu: list[int] = []
    with suppress(OSError):
        per_cpu = [int(word) for word in read(f"{account}/cpuacct.usage_percpu").split()]
    return {
        "cpu": {
            "usage": {
                "total": number(f"{account}/cpuacct.usage"),
                "percpu": per_cpu,
                "kernel": used.get("system", 0) * tick,
                "user": used.get("user", 0) * tick,
            },
            "throttling": {
                "periods": throttling.get("nr_periods", 0),
                "throttledPeriods": throttling.get("nr_throttled", 0),
                "throttledTime": throttling.get("throttled_time", 0),
            },
        },
        "memory": {
            "usage": _memory(memory, "memory"),
            "swap": _memory(memory, "memory.memsw"),
            "kernel": _memory(memory, "memory.kmem"),
            "kernelTCP": _memory(memory, "memory.kmem.tcp"),
            "raw": table(f"{memory}/memory.stat"),
        },
        "pids": {"current": number(f"{pids}/pids.current"), "limit": _limit(f"{pids}/pids.max")},
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
    }


def _memory(directory: str, name: str) -> dict[str, int]:
    return {
        "limit": number(f"{directory}/{name}.limit_in_bytes"),
        "usage": number(f"{directory}/{name}.usage_in_bytes"),
        "max": number(f"{directory}/{name}.max_usage_in_bytes"),
        "failcnt": number(f"{directory}/{name}.failcnt"),
    }


def _limit(path: str) -> int:
    found = number(path)
    return 0 if found == UNLIMITED else found


# %% Version 2
def _version_2(directory: str) -> dict[str, Any]:
    cpu = table(f"{directory}/cpu.stat")
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000,
                "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": {
                "periods": cpu.get("nr_periods", 0),
                "throttledPeriods": cpu.get("nr_throttled", 0),
                "throttledTime": cpu.get("throttled_usec", 0) * 1000,
            },
        },
        "memory": {
            "usage": {
                "limit": number(f"{directory}/memory.max"),
                "usage": number(f"{directory}/memory.current"),
                "max": number(f"{directory}/memory.peak"),
                "failcnt": table(f"{directory}/memory.events").get("max", 0),
            },
            "swap": {
                "limit": number(f"{directory}/memory.swap.max"),
                "usage": number(f"{directory}/memory.swap.current"),
                "failcnt": 0,
            },
            "raw": table(f"{directory}/memory.stat"),
        },
        "pids": {
            "current": number(f"{directory}/pids.current"),
            "limit": _limit(f"{directory}/pids.max"),
        },
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
    }
