"""``events`` and ``update``: what a container uses, and what it may use.

**Interface:** :func:`events`, :func:`update`.
"""

from __future__ import annotations

import json
import time

from minidock import cgroups
from minidock.cli.flags import Flag, size
from minidock.cli.runtime import Call
from minidock.errors import Conflict, InvalidParameter, NotFound
from minidock.runtime.store import Entry, Status, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minidock.cli.flags import Values


# %% events
def events(call: Call) -> int:
    """A line of JSON for each look, and for each time that memory ran out."""
    flags = [
        Flag("interval", "", "string", "set the stats collection interval", "5s"),
        Flag("stats", "", "bool", "display the container's stats then exit"),
    ]
    values, (container_id,) = call.parse(flags, 1, 1)
    interval = seconds(values["interval"])
    entry = Store(call.root).find(container_id)
    if entry.status() == Status.STOPPED:
        raise Conflict(f"container with id {container_id} is not running")
    if values["stats"]:
        _show(entry, "stats")
        return 0
    _follow(entry, interval)
    return 0


def _follow(entry: Entry, interval: float) -> None:
    """Until it has stopped. A look at the kernel's count of kills ten times a second is cheap enough."""
    cgroup = cgroups.open(entry.cgroup)
    killed, due = 0, time.monotonic() + interval
    while entry.status() != Status.STOPPED:
        now_killed = cgroup.stats().oom_kills
        for _ in range(now_killed - killed):
            _show(entry, "oom")
        killed = now_killed
        if time.monotonic() >= due:
            _show(entry, "stats")
            due += interval
        time.sleep(min(0.1, interval))


def _show(entry: Entry, kind: str) -> None:
    from minidock.runtime.statistics import statistics

    event: dict[str, Any] = {"type": kind, "id": entry.id}
    if kind == "stats":
        event["data"] = statistics(cgroups.open(entry.cgroup))
    print(json.dumps(event, separators=(",", ":")), flush=True)


def seconds(text: str) -> float:
    """A duration as Go writes it: ``100ms``, ``5s``, ``1m``."""
    units = {"ms": 0.001, "us": 0.000001, "s": 1.0, "m": 60.0, "h": 3600.0}
    for unit, factor in units.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            if float(number) <= 0:
                break
            return float(number) * factor
    raise InvalidParameter(f"duration interval must be greater than 0, like 5s, not {text!r}")


# %% update
NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "pids-limit": ("pids", "limit"),
}

TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}

SIZES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
}

IGNORED = ("kernel-memory", "kernel-memory-tcp", "l3-cache-schema", "mem-bw-schema")


def update(call: Call) -> int:
    """``--resources`` gives all of it as JSON; else each flag is one value."""
    from minidock.runtime.updating import update as apply

    flags = [
        Flag("resources", "r", "string", "path to the file of resources, or '-'"),
        *(Flag(name) for name in (*NUMBERS, *TEXTS, *SIZES, *IGNORED)),
    ]
    values, (container_id,) = call.parse(flags, 1, 1)
    entry = Store(call.root).find(container_id)
    for name in IGNORED[2:]:
        if values[name]:
            raise InvalidParameter(f"--{name}: Intel RDT is not enabled on this host")
    for name in IGNORED[:2]:
        if values[name]:
            call.log.warn("Kernel memory settings are ignored and will be removed")
    wanted = _read(values["resources"]) if values["resources"] else _collect(values)
    apply(entry, wanted)
    return 0


def _read(path: str) -> dict[str, Any]:
    try:
        with open(0 if path == "-" else path) as file:
            return dict(json.load(file))
    except FileNotFoundError:
        raise NotFound(f"open {path}: no such file or directory") from None
    except (ValueError, TypeError) as error:
        raise InvalidParameter(f"{path} is not a JSON object: {error}") from None


def _collect(values: Values) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for table, convert in ((NUMBERS, int), (TEXTS, str), (SIZES, _size)):
        for name, (group, key) in table.items():
            if not values[name]:
                continue
            try:
                wanted.setdefault(group, {})[key] = convert(values[name])
            except ValueError as error:
                raise InvalidParameter(f"invalid value for {name}: {error}") from None
    return wanted


def _size(text: str) -> int:
    """``64m`` in bytes; -1 is no limit."""
    return -1 if text == "-1" else size(text)
