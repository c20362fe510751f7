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

from minidock.cgroups import (
    Cgroup,
    Host,
    Stats,
    check_usage,
    keyed,
    rdma_line,
    read,
    write,
    write_known,
)
from minidock.cgroups.v2 import switch_on_above
from minidock.errors import InvalidParameter, Unavailable
from minidock.spec.resources import BlockIO, HugepageLimit, Network
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
        if resources.block_io is not None:
            limit_disks(self._directory("blkio", "a disk limit"), resources.block_io)
        if resources.hugepage_limits:
            self._limit_hugepages(resources.hugepage_limits)
        if resources.network is not None:
            self._mark_packets(resources.network)
        for device, limits in resources.rdma.items():
            directory = self._directory("rdma", "an RDMA limit")
            write(f"{directory}/rdma.max", rdma_line(device, limits))
        if resources.devices:
            _limit_devices(self._directory("devices", "the device filter"), resources.devices)

    # %% Processors
    def _limit_cpu(self, cpu: CPU) -> None:
        """Shares are a weight; quota is microseconds per period; cpus and mems are lists.

        A burst may not exceed the quota, so it comes after; real time may not
        exceed its period, likewise.
        """
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
        more = (
            ("cfs_burst_us", cpu.burst),
            ("rt_period_us", cpu.realtime_period),
            ("rt_runtime_us", cpu.realtime_runtime),
            ("idle", cpu.idle),
        )
        for name, value in more:
            if value is not None:
                self._write_cpu(name, value)
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
        _schedule(f"{self._directory('cpu', 'a processor limit')}/cpu.{name}", number)

    # %% Huge pages and packets
    def _limit_hugepages(self, limits: tuple[HugepageLimit, ...]) -> None:
        """On a hybrid host this controller may live in the version 2 tree, with that tree's file."""
        tree, file = self._host.controllers.get("hugetlb"), "limit_in_bytes"
        if tree is None and self._host.unified is not None:
            tree, file = self._host.unified, "max"
            switch_on_above(tree, self.path, ("hugetlb",))
        if tree is None:
            self._directory("hugetlb", "a limit of huge pages")
        for one in limits:
            write_known(f"{tree}{self.path}/hugetlb.{one.page_size}.{file}", str(one.limit))

    def _mark_packets(self, network: Network) -> None:
        if network.class_id is not None:
            directory = self._directory("net_cls", "linux.resources.network.classID")
            write(f"{directory}/net_cls.classid", str(network.class_id))
        for one in network.priorities:
            directory = self._directory("net_prio", "linux.resources.network.priorities")
            write(f"{directory}/net_prio.ifpriomap", f"{one.name} {one.priority}")

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


def _schedule(path: str, number: int) -> None:
    """Real time is divided, not shared: a group can have no more than its parent has left."""
    try:
        write_known(path, str(number))
    except OSError as error:
        if "/cpu.rt_" not in path or error.errno != errno.EINVAL:
            raise
        parent = os.path.dirname(os.path.dirname(path))
        raise InvalidParameter(
            f"{os.path.basename(path)} {number}: no more than {parent}/cpu.rt_runtime_us (less what its"
            " other children have) can be given: write into that file first"
        ) from None


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
    limits.append(("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp))
    if memory.check_before_update and memory.limit is not None and memory.limit >= 0:
        check_usage(f"{directory}/memory.usage_in_bytes", memory.limit)
    for name, value in limits:
        if value is not None:
            write_known(f"{directory}/{name}", str(value))
    if memory.disable_oom_killer is not None:
        write(f"{directory}/memory.oom_control", str(int(memory.disable_oom_killer)))


# %% Disks
def limit_disks(directory: str, limits: BlockIO) -> None:
    """Weights are kept by the scheduler BFQ, under its own name or the old one; rates by the kernel.

    A weight of 0 is how dockerd says that none was asked for.
    """
    for name, weight in (("weight", limits.weight), ("leaf_weight", limits.leaf_weight)):
        if weight:
            write_known(_weight_file(directory, name), str(weight))
    for device in limits.weight_device:
        at = f"{device.major}:{device.minor}"
        for name, weight in (("weight", device.weight), ("leaf_weight", device.leaf_weight)):
            if weight:
                _weigh_device(_weight_file(directory, f"{name}_device"), at, weight)
    rates = (
        ("read_bps", limits.throttle_read_bps_device),
        ("write_bps", limits.throttle_write_bps_device),
        ("read_iops", limits.throttle_read_iops_device),
        ("write_iops", limits.throttle_write_iops_device),
    )
    for name, devices in rates:
        for one in devices:
            line = f"{one.major}:{one.minor} {one.rate}"
            write_known(f"{directory}/blkio.throttle.{name}_device", line)


def _weigh_device(path: str, device: str, weight: int) -> None:
    try:
        write_known(path, f"{device} {weight}")
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise Unavailable(
            f"the disk {device} keeps no weights: its scheduler is not bfq"
            f" (see /sys/dev/block/{device}/queue/scheduler)"
        ) from None


def _weight_file(directory: str, name: str) -> str:
    bfq = f"{directory}/blkio.bfq.{name}"
    return bfq if os.path.exists(bfq) else f"{directory}/blkio.{name}"


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
    access = "".join(letter for letter in rule.access if letter in "rwm")
    return f"{rule.type} {major}:{minor} {access or 'rwm'}"
