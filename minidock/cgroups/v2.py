"""Version 2: one tree.

**Interface:** :class:`V2Cgroup`.

The traps. A controller acts in a directory only if its parent has it in
``cgroup.subtree_control``, and the parent's parent too, so they are
switched on from the top down; and a directory with processes of its own may
not do so (EBUSY): our ``/minidock`` holds only containers. There is no
devices controller: its work is done by a BPF program attached to the
directory. Swap is counted by itself, not together with memory, and shares
became a weight between 1 and 10000.

**See:** Linux Documentation/admin-guide/cgroup-v2.rst; OCI runtime
specification, config-linux.md, "Unified".
"""

import os
from contextlib import suppress
from typing import Any

from minidock.cgroups import Cgroup, Host, Stats, keyed, read, write
from minidock.cgroups.hardware import lines_v2
from minidock.errors import InvalidParameter, Unavailable
from minidock.linux import bpf
from minidock.spec.runtime import CPU, Memory, Resources

WANTED = ("cpu", "cpuset", "memory", "pids", "io")


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
        above = self._tree
        for name in self.path.strip("/").split("/"):
            _switch_on(above)
            above = f"{above}/{name}"

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
        for _, file, text in lines_v2(resources):
            self._set(file, text, file)
        for name, value in resources.unified.items():
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
        if memory.limit is not None:
            self._set("memory.max", _or_max(memory.limit), "a memory limit")
        if memory.reservation is not None:
            self._set("memory.low", _or_max(memory.reservation), "a memory reservation")
        if memory.swap is not None:
            alone = -1 if memory.swap < 0 else memory.swap - (memory.limit or 0)
            with suppress(Unavailable):  # a kernel without swap has no such file, and no need
                self._set("memory.swap.max", _or_max(alone), "a swap limit")

    def _limit_cpu(self, cpu: CPU) -> None:
        if cpu.shares:
            self._set("cpu.weight", str(weight(cpu.shares)), "a processor weight")
        if cpu.quota is not None or cpu.period is not None:
            quota = _or_max(cpu.quota if cpu.quota else -1)
            self._set("cpu.max", f"{quota} {cpu.period or 100000}", "a processor limit")
        for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
            if text:
                try:
                    self._set(f"cpuset.{name}", text, f"--cpuset-{name}")
                except OSError as error:
                    raise InvalidParameter(
                        f"Requested {name} are not available - requested {text}: {error}"
                    ) from None

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
        """``cgroup.freeze``, and wait until ``cgroup.events`` says that it is so."""
        write(f"{self.directory}/cgroup.freeze", str(int(frozen)))
        for _ in range(1000):
            if self._keyed("cgroup.events").get("frozen") == int(frozen):
                return

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


def _switch_on(directory: str) -> None:
    """Pass on to the children what the directory itself has."""
    has = read(f"{directory}/cgroup.controllers").split()
    on = read(f"{directory}/cgroup.subtree_control").split()
    missing = [name for name in WANTED if name in has and name not in on]
    if missing:
        write(
            f"{directory}/cgroup.subtree_control",
            " ".join(f"+{name}" for name in missing),
        )
