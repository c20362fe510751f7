"""Version 2: one tree.

**Interface:** :class:`V2Cgroup`.

The traps. A controller acts in a directory only if its parent has it in
``cgroup.subtree_control``, and the parent's parent too, so they are
switched on from the top down; and a directory with processes of its own may
not do so (EBUSY): our ``/minidock`` holds only containers. An engine that
runs *in* a container sees the container's cgroup as the top, and itself
sitting in it: it moves down, into a leaf. There is no devices controller: its work is done by a BPF program attached to the
directory. Swap is counted by itself, not together with memory, and shares
became a weight between 1 and 10000.

**See:** Linux Documentation/admin-guide/cgroup-v2.rst; OCI runtime
specification, config-linux.md, "Unified".
"""

import errno
import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from minidock import steps
from minidock.cgroups import (
    Cgroup,
    Host,
    Stats,
    check_usage,
    keyed,
    rdma_line,
    read,
    write,
)
from minidock.errors import InvalidParameter, Unavailable
from minidock.linux import bpf
from minidock.spec.resources import BlockIO
from minidock.spec.runtime import CPU, Memory, Resources

WANTED = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb", "rdma")


# %% A cgroup with one directory
class V2Cgroup(Cgroup):
    """A directory of the unified tree."""

    def __init__(self, path: str, host: Host) -> None:
        super().__init__(path)
        self._tree = host.unified or ""
        self.directory = self._tree + path

    def directories(self) -> list[str]:
        """Just the one."""
        return [self.directory]

    def by_controller(self) -> dict[str, str]:
        """One for all."""
        return {"": self.directory}

    def make(self) -> None:
        """``mkdir``, and switch the controllers on in every directory above it."""
        os.makedirs(self.directory, exist_ok=True)
        switch_on_above(self._tree, self.path, WANTED)

    # %% Limits
    def apply(self, resources: Resources) -> None:
        """Set the limits, file by file."""
        if resources.memory is not None:
            self._limit_memory(resources.memory)
        if resources.cpu is not None:
            self._limit_cpu(resources.cpu)
        if resources.pids is not None:
            limit = resources.pids.limit
            self._set("pids.max", str(limit) if limit > 0 else "max", "a limit of processes")
        if resources.block_io is not None:
            self._limit_disks(resources.block_io)
        for page in resources.hugepage_limits:
            self._set(f"hugetlb.{page.page_size}.max", str(page.limit), "a limit of huge pages")
        if resources.network is not None:
            raise Unavailable("linux.resources.network needs cgroup v1; this host has v2")
        for device, limits in resources.rdma.items():
            self._set("rdma.max", rdma_line(device, limits), "an RDMA limit")
        for name, value in resources.unified.items():
            if "/" in name:
                raise InvalidParameter(
                    f"unified resource {name!r} must be a file name (no slashes)"
                )
            self._set(name, value, name)
        if resources.devices:
            bpf.attach_device_filter(self.directory, bpf.device_filter(resources.devices))

    def _set(self, file: str, value: str, limit: str) -> None:
        path = f"{self.directory}/{file}"
        if not os.path.exists(path):
            controller = file.partition(".")[0]
            raise Unavailable(
                f"{limit} needs the cgroup controller {controller!r}, which this host lacks"
            )
        write(path, value)

    def _limit_memory(self, memory: Memory) -> None:
        """Swappiness is the whole host's here, and nobody may be spared by the OOM killer."""
        if memory.check_before_update and memory.limit is not None and memory.limit >= 0:
            check_usage(f"{self.directory}/memory.current", memory.limit)
        if memory.limit is not None:
            self._set("memory.max", _or_max(memory.limit), "a memory limit")
        if memory.reservation is not None:
            self._set("memory.low", _or_max(memory.reservation), "a memory reservation")
        if memory.swap is not None:
            alone = -1 if memory.swap < 0 else memory.swap - (memory.limit or 0)
            with suppress(Unavailable):  # a kernel without swap has no such file, and no need
                self._set("memory.swap.max", _or_max(alone), "a swap limit")

    def _limit_cpu(self, cpu: CPU) -> None:
        if cpu.idle is not None:
            self._set("cpu.idle", str(cpu.idle), "idle scheduling")
        if cpu.shares and not cpu.idle:  # an idle group has no weight (EINVAL)
            self._set("cpu.weight", str(weight(cpu.shares)), "a processor weight")
        if cpu.quota is not None or cpu.period is not None:
            quota = _or_max(cpu.quota if cpu.quota else -1)
            self._set("cpu.max", f"{quota} {cpu.period or 100000}", "a processor limit")
        if cpu.burst is not None:
            self._set("cpu.max.burst", str(cpu.burst), "a processor burst")
        if cpu.realtime_runtime or cpu.realtime_period:
            raise Unavailable("real-time limits need cgroup v1; this host has v2")
        for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
            if text:
                try:
                    self._set(f"cpuset.{name}", text, f"--cpuset-{name}")
                except OSError as error:
                    raise InvalidParameter(
                        f"Requested {name} are not available - requested {text}: {error}"
                    ) from None

    # %% Disks
    def _limit_disks(self, limits: BlockIO) -> None:
        """``io.bfq.weight`` where the scheduler BFQ is, else ``io.weight``, which counts otherwise."""
        if limits.weight:
            self._weigh("default", limits.weight)
        for one in limits.weight_device:
            if one.weight:
                self._weigh(f"{one.major}:{one.minor}", one.weight)
        rates = (
            ("rbps", limits.throttle_read_bps_device),
            ("wbps", limits.throttle_write_bps_device),
            ("riops", limits.throttle_read_iops_device),
            ("wiops", limits.throttle_write_iops_device),
        )
        for name, devices in rates:
            for device in devices:
                line = f"{device.major}:{device.minor} {name}={device.rate or 'max'}"
                self._set("io.max", line, "a disk limit")

    def _weigh(self, what: str, weight: int) -> None:
        if os.path.exists(f"{self.directory}/io.bfq.weight"):
            self._set("io.bfq.weight", f"{what} {weight}", "a disk weight")
        else:
            self._set("io.weight", f"{what} {io_weight(weight)}", "a disk weight")

    # %% Looking, freezing, killing
    def stats(self) -> Stats:
        """From the files of the one directory; zero where a controller is off."""
        return Stats(
            cpu=self._keyed("cpu.stat").get("usage_usec", 0) * 1000,
            memory=self._number("memory.current"),
            memory_limit=self._number("memory.max"),
            pids=self._number("pids.current"),
            oom_kills=self._keyed("memory.events").get("oom_kill", 0),
        )

    def _number(self, file: str) -> int:
        with suppress(FileNotFoundError):
            text = read(f"{self.directory}/{file}").strip()
            return 2**63 - 1 if text == "max" else int(text)
        return 0

    def _keyed(self, file: str) -> dict[str, int]:
        with suppress(FileNotFoundError):
            return keyed(f"{self.directory}/{file}")
        return {}

    def transferred(self) -> list[dict[str, Any]]:
        """Lines like ``254:0 rbytes=4096 wbytes=0 …``; none where the controller is off."""
        found: list[dict[str, Any]] = []
        with suppress(FileNotFoundError):
            for line in read(f"{self.directory}/io.stat").splitlines():
                device, *pairs = line.split()
                values = dict(pair.partition("=")[::2] for pair in pairs)
                major, _, minor = device.partition(":")
                for op, key in (("Read", "rbytes"), ("Write", "wbytes")):
                    where = {"major": int(major), "minor": int(minor), "op": op}
                    found.append({**where, "value": int(values.get(key, 0))})
        return found

    def freeze(self, frozen: bool) -> None:
        """``cgroup.freeze``, and wait until ``cgroup.events`` says that it is so.

        The kernel wakes whoever polls that file for POLLPRI when a line of it
        changes. Raises :class:`Unavailable` if it takes longer than ten seconds.
        """
        write(f"{self.directory}/cgroup.freeze", str(int(frozen)))
        deadline = time.monotonic() + 10.0
        with open(f"{self.directory}/cgroup.events") as events:
            change = select.poll()
            change.register(events, select.POLLPRI)
            while f"frozen {int(frozen)}" not in events.read():
                if time.monotonic() > deadline:
                    raise Unavailable(f"cgroup {self.path} does not freeze")
                change.poll(100)
                events.seek(0)

    def frozen(self) -> bool:
        """``cgroup.freeze`` is what was asked for, ``cgroup.events`` what is."""
        return self._keyed("cgroup.events").get("frozen", 0) == 1

    def _kill_once(self) -> None:
        """One write does it (Linux 5.14); before that, freeze and go through the list."""
        try:
            write(f"{self.directory}/cgroup.kill", "1")
        except OSError:
            super()._kill_once()


# %% Values
def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def weight(shares: int) -> int:
    """Version 1's shares (2 to 262144) as version 2's weight (1 to 10000), as the OCI runtimes do."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def io_weight(blkio: int) -> int:
    """Version 1's disk weight (10 to 1000) as version 2's (1 to 10000), as the OCI runtimes do."""
    return 1 + (min(max(blkio, 10), 1000) - 10) * 9999 // 990


# %% No internal processes
def _move_down(top: str) -> None:
    """Move every process out of the group at ``top`` into a leaf below it.

    Only the real root of the tree may hold processes *and* pass controllers on.
    A container's cgroup is the top of all that the container sees, but no real
    root; so whoever wants groups there must not stay. Others may be forking
    meanwhile: go on until nobody is left.
    """
    leaf = f"{top}/init"
    with steps.step("leave the top cgroup", call="write(2)", chapter="cgroups", to=leaf):
        os.makedirs(leaf, exist_ok=True)
        # 0 is a process outside our pid namespace: nobody whom we could name.
        while pids := [pid for pid in read(f"{top}/cgroup.procs").split() if pid != "0"]:
            for pid in pids:
                with suppress(ProcessLookupError):
                    write(f"{leaf}/cgroup.procs", pid)


def switch_on_above(tree: str, path: str, wanted: Sequence[str]) -> None:
    """Let every directory above ``path`` pass on to its children what it has of ``wanted``."""
    above = tree
    for name in path.strip("/").split("/"):
        _switch_on(above, wanted, at_top=above == tree)
        above = f"{above}/{name}"


def _switch_on(directory: str, wanted: Sequence[str], at_top: bool) -> None:
    has = read(f"{directory}/cgroup.controllers").split()
    on = read(f"{directory}/cgroup.subtree_control").split()
    missing = " ".join(f"+{name}" for name in wanted if name in has and name not in on)
    if not missing:
        return
    try:
        write(f"{directory}/cgroup.subtree_control", missing)
    except OSError as error:
        if error.errno != errno.EBUSY or not at_top:
            raise
        _move_down(directory)
        write(f"{directory}/cgroup.subtree_control", missing)
