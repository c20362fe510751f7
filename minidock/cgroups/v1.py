"""Version 1: every controller has a tree of its own.

**Interface:** :class:`V1Cgroup`.

The traps. A new cpuset has no processors and no memory nodes, and entering
it fails with ENOSPC, so both are copied from above. ``memsw`` limits memory
*and* swap, may not be lower than the memory limit, and so must be raised
before it and lowered after. The devices controller begins by allowing
whatever its parent allows: deny all first. Controllers can be mounted
together (``cpu,cpuacct``): two names, one directory.

**See:** Linux Documentation/admin-guide/cgroup-v1/ (memory.rst,
cpusets.rst, devices.rst, pids.rst, freezer-subsystem.rst),
Documentation/scheduler/sched-bwc.rst.
"""

import errno
import os
from contextlib import suppress
from typing import Any

from minidock.cgroups import Cgroup, Host, Stats, keyed, read, write
from minidock.cgroups.hardware import lines_v1
from minidock.errors import InvalidParameter, Unavailable
from minidock.spec.runtime import CPU, DeviceRule, Memory, Resources


# %% A cgroup with many directories
class V1Cgroup(Cgroup):
    """One directory per tree; on a hybrid host one more, in the version 2 tree."""

    def __init__(self, path: str, host: Host) -> None:
        super().__init__(path)
        self._host = host

    def _directory(self, controller: str, limit: str) -> str:
        tree = self._host.controllers.get(controller)
        if tree is None:
            raise Unavailable(
                f"{limit} needs the cgroup controller {controller!r}, which this host lacks"
            )
        return tree + self.path

    def directories(self) -> list[str]:
        """The version 2 directory, if there is one, comes first."""
        trees = [self._host.unified] if self._host.unified is not None else []
        trees += list(dict.fromkeys(self._host.controllers.values()))
        return [tree + self.path for tree in trees]

    def by_controller(self) -> dict[str, str]:
        """The version 2 directory of a hybrid host goes by the empty name."""
        found = {name: tree + self.path for name, tree in self._host.controllers.items()}
        return (
            found if self._host.unified is None else {"": self._host.unified + self.path, **found}
        )

    # %% Making it
    def make(self) -> None:
        """``mkdir`` in every tree, and fill in the cpusets."""
        for directory in self.directories():
            os.makedirs(directory, exist_ok=True)
        tree = self._host.controllers.get("cpuset")
        if tree is not None:
            _fill_cpuset(tree, self.path)

    def apply(self, resources: Resources) -> None:
        """Set the limits, controller by controller."""
        if resources.unified:
            raise Unavailable("invalid configuration: cannot use unified on cgroup v1")
        if resources.memory is not None:
            _limit_memory(self._directory("memory", "a memory limit"), resources.memory)
        if resources.cpu is not None:
            self._limit_cpu(resources.cpu)
        if resources.pids is not None:
            limit = resources.pids.limit
            value = str(limit) if limit > 0 else "max"
            write(self._directory("pids", "a limit of processes") + "/pids.max", value)
        for controller, file, text in lines_v1(resources):
            path = f"{self._directory(controller, file)}/{file}"
            if not os.path.exists(path):
                raise Unavailable(f"{file}: this kernel or its disk scheduler has no such limit")
            write(path, text)
        if resources.devices:
            _limit_devices(self._directory("devices", "the device filter"), resources.devices)

    # %% Processors
    def _limit_cpu(self, cpu: CPU) -> None:
        """Shares are a weight; quota is microseconds per period; cpus and mems are lists."""
        if cpu.shares is not None:
            self._write_cpu("shares", cpu.shares)
        parts = [("cfs_period_us", cpu.period), ("cfs_quota_us", cpu.quota)]
        given = [(name, number) for name, number in parts if number is not None]
        try:
            for name, number in given:
                self._write_cpu(name, number)
        except OSError as error:  # together they would do, but one of them must be first
            if error.errno != errno.EINVAL or len(given) < 2:
                raise
            for name, number in reversed(given):
                self._write_cpu(name, number)
        for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
            if text:
                directory = self._directory("cpuset", f"--cpuset-{name}")
                try:
                    write(f"{directory}/cpuset.{name}", text)
                except OSError as error:
                    raise InvalidParameter(
                        f"Requested {name} are not available - requested {text}: {error}"
                    ) from None

    def _write_cpu(self, name: str, number: int) -> None:
        write(f"{self._directory('cpu', 'a processor limit')}/cpu.{name}", str(number))

    # %% Looking, freezing, killing
    def stats(self) -> Stats:
        """From four controllers; zero where one is missing."""
        return Stats(
            cpu=self._number("cpuacct", "cpuacct.usage"),
            memory=self._number("memory", "memory.usage_in_bytes"),
            memory_limit=self._number("memory", "memory.limit_in_bytes"),
            pids=self._number("pids", "pids.current"),
            oom_kills=self._oom_kills(),
        )

    def _number(self, controller: str, file: str) -> int:
        tree = self._host.controllers.get(controller)
        return 0 if tree is None else int(read(f"{tree}{self.path}/{file}"))

    def _oom_kills(self) -> int:
        tree = self._host.controllers.get("memory")
        if tree is None:
            return 0
        return keyed(f"{tree}{self.path}/memory.oom_control").get("oom_kill", 0)

    def transferred(self) -> list[dict[str, Any]]:
        """Lines like ``254:0 Read 4096``, and sums without a device."""
        tree = self._host.controllers.get("blkio")
        if tree is None:
            return []
        lines = read(f"{tree}{self.path}/blkio.throttle.io_service_bytes").splitlines()
        words = [line.split() for line in lines if line.count(" ") == 2]
        return [
            {"major": int(major), "minor": int(minor), "op": op, "value": int(value)}
            for device, op, value in words
            for major, _, minor in [device.partition(":")]
            if op in ("Read", "Write")
        ]

    def freeze(self, frozen: bool) -> None:
        """The freezer takes its time: read back until it has done it."""
        state = "FROZEN" if frozen else "THAWED"
        path = self._directory("freezer", "freezing") + "/freezer.state"
        write(path, state)
        for _ in range(1000):
            if read(path).strip() == state:
                return
            write(path, state)

    def frozen(self) -> bool:
        """``freezer.state``, which says THAWED in a cgroup that nobody has frozen."""
        tree = self._host.controllers.get("freezer")
        if tree is None:
            return False
        with suppress(FileNotFoundError):
            return read(f"{tree}{self.path}/freezer.state").strip() != "THAWED"
        return False

    def _kill_once(self) -> None:
        """A hybrid host can do it in one write; else freeze and go through the list."""
        if self._host.unified is not None:
            with suppress(OSError):
                write(f"{self._host.unified}{self.path}/cgroup.kill", "1")
                return
        super()._kill_once()


# %% Memory
def _limit_memory(directory: str, memory: Memory) -> None:
    limits = [
        ("memory.limit_in_bytes", memory.limit),
        ("memory.memsw.limit_in_bytes", memory.swap),
    ]
    if not os.path.exists(f"{directory}/memory.memsw.limit_in_bytes"):
        limits.pop()  # a kernel without swap accounting
    elif memory.limit is not None and memory.swap is not None:
        now = int(read(f"{directory}/memory.memsw.limit_in_bytes"))
        if memory.limit < 0 or memory.limit > now:  # never let the memory limit be above the other
            limits.reverse()
    limits.append(("memory.soft_limit_in_bytes", memory.reservation))
    limits.append(("memory.swappiness", memory.swappiness))
    for name, value in limits:
        if value is not None:
            write(f"{directory}/{name}", str(value))
    if memory.disable_oom_killer:
        write(f"{directory}/memory.oom_control", "1")


# %% Cpusets and devices
def _fill_cpuset(tree: str, path: str) -> None:
    """Copy processors and memory nodes from parent to child, from the top down."""
    parent = tree
    for name in path.strip("/").split("/"):
        child = f"{parent}/{name}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not read(f"{child}/{file}").strip():
                write(f"{child}/{file}", read(f"{parent}/{file}").strip())
        parent = child


def _limit_devices(directory: str, rules: tuple[DeviceRule, ...]) -> None:
    for rule in rules:
        write(
            f"{directory}/devices.{'allow' if rule.allow else 'deny'}",
            device_line(rule),
        )


def device_line(rule: DeviceRule) -> str:
    """``c 1:3 rwm``; ``a`` is everything."""
    if rule.type == "a":
        return "a"
    major = "*" if rule.major is None else rule.major
    minor = "*" if rule.minor is None else rule.minor
    return f"{rule.type} {major}:{minor} {rule.access or 'rwm'}"
