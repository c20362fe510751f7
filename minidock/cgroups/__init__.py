"""Cgroups: what a process may use.

A control group is a directory in a file system that the kernel provides:
``mkdir`` makes one, writing a pid into ``cgroup.procs`` puts a process (and
all children it will have) in, writing a number into ``memory.max`` limits
them together, ``rmdir`` removes it when it is empty.

There are two versions of the idea. In version 1 each *controller* (memory,
cpu, pids, ...) has a tree of its own, so a container has ten directories;
in version 2 there is one tree and controllers are switched on in it. A
*hybrid* host has version 1 with a version 2 tree beside it that has no
controllers to speak of, but can kill a whole group with one write.

The traps: version 2 wants processes only in leaves (EBUSY otherwise), and a
controller switched on from the top down; version 1's cpuset is born empty,
and a process cannot enter it so; ``rmdir`` says EBUSY while the last
process is still on its way out.

**Interface:** :func:`create`, :func:`open`, :func:`children`,
:func:`hierarchy`, :class:`Cgroup`, :class:`Stats`.

**See:** cgroups(7); Linux Documentation/admin-guide/cgroup-v2.rst and
cgroup-v1/; OCI runtime specification, config-linux.md, "Control groups".
"""

import builtins
import errno
import os
import signal
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from minidock import steps
from minidock.cgroups.entrance import Entrance
from minidock.errors import Conflict, Unavailable
from minidock.spec.resources import Rdma
from minidock.spec.runtime import Resources


# %% What the host has
class Version(Enum):
    """How this host's cgroups are arranged."""

    V1 = "v1"
    HYBRID = "hybrid"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class Host:
    """The mounted trees: ``controllers`` of version 1 by name, ``unified`` of version 2, if any."""

    controllers: dict[str, str]
    unified: str | None

    @property
    def version(self) -> Version:
        """Which of the three arrangements this is."""
        if not self.controllers:
            return Version.V2
        return Version.V1 if self.unified is None else Version.HYBRID


@cache
def host() -> Host:
    """Read ``/proc/self/mountinfo``, once. Raises :class:`Unavailable` if there are no cgroups."""
    with builtins.open("/proc/self/mountinfo") as file:
        found = parse_mountinfo(file.read())
    if not found.controllers and found.unified is None:
        raise Unavailable("no cgroup file system is mounted (see `minidock doctor`)")
    return found


def parse_mountinfo(text: str) -> Host:
    """The cgroup trees in the text of a mountinfo file (proc_pid_mountinfo(5))."""
    controllers: dict[str, str] = {}
    unified = None
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()[0]
        if kind == "cgroup2":
            unified = unified or fields[4]
        elif kind == "cgroup":
            for option in right.split()[2].split(","):
                name = option.removeprefix("name=")
                if option.startswith("name=") or option in CONTROLLERS:
                    controllers.setdefault(name, fields[4])
    return Host(controllers, unified)


CONTROLLERS = frozenset(
    ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory"]
    + ["net_cls", "net_prio", "perf_event", "pids", "rdma", "misc"]
)


def hierarchy() -> Version:
    """Version 1, version 2, or both."""
    return host().version


# %% What can be read from a cgroup
@dataclass(frozen=True, slots=True)
class Stats:
    """How much is used: nanoseconds of processor time, bytes, processes and threads."""

    cpu: int
    memory: int
    memory_limit: int
    pids: int
    oom_kills: int


# %% The contract
class Cgroup(ABC):
    """One control group; ``path`` is its name below the root of the tree(s)."""

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def directories(self) -> list[str]:
        """Its directories: one in version 2, one per tree in version 1."""

    @abstractmethod
    def make(self) -> None:
        """Make the directories; those above them that are missing, too."""

    @abstractmethod
    def apply(self, resources: Resources) -> None:
        """Set the limits; what is absent in ``resources`` stays as it is."""

    @abstractmethod
    def stats(self) -> Stats:
        """What its processes use."""

    @abstractmethod
    def transferred(self) -> list[dict[str, Any]]:
        """Bytes read from and written to each device: ``major``, ``minor``, ``op``, ``value``."""

    @abstractmethod
    def freeze(self, frozen: bool) -> None:
        """Stop all its processes where they are, or let them go on."""

    @abstractmethod
    def frozen(self) -> bool:
        """Whether they are stopped; a cgroup that is gone is not."""

    @abstractmethod
    def by_controller(self) -> dict[str, str]:
        """Its directory for each controller (in version 2 there is one, under the empty name)."""

    def exists(self) -> bool:
        """Whether there is such a cgroup."""
        return os.path.isdir(self.directories()[-1])

    # %% Processes
    def entrance(self) -> Entrance:
        """The way in for a process; children that it has later are born in here."""
        return Entrance.open(self.by_controller())

    def add(self, pid: int) -> None:
        """Put the process ``pid`` in from outside, which is slow: see :mod:`.entrance`."""
        for directory in self.directories():
            write(f"{directory}/cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        """The processes in it, as the host numbers them; none if it is gone."""
        with suppress(FileNotFoundError, OSError):
            return sorted(
                int(line) for line in read(f"{self.directories()[0]}/cgroup.procs").split()
            )
        return []

    def everybody(self) -> list[int]:
        """The processes in it and in the cgroups that it has made below itself."""
        found: set[int] = set()
        for place, _, _ in os.walk(self.directories()[0]):
            with suppress(OSError):
                found.update(int(line) for line in read(f"{place}/cgroup.procs").split())
        return sorted(found)

    def signal(self, number: int) -> None:
        """Send a signal to all of them; frozen first, so that nobody forks away meanwhile."""
        was_frozen = self.frozen()
        with suppress(OSError):
            self.freeze(True)
        for pid in self.everybody():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if not was_frozen:
            with suppress(OSError):
                self.freeze(False)

    def oom_killed(self) -> bool:
        """Whether the kernel has killed a process in it for want of memory."""
        with suppress(OSError):
            return self.stats().oom_kills > 0
        return False

    # %% The end
    def kill(self) -> None:
        """Kill every process in it, and wait until none is left."""
        deadline = time.monotonic() + 10.0
        while left := self.everybody():
            self._kill_once()
            if time.monotonic() > deadline:
                raise Unavailable(f"processes in cgroup {self.path} do not die: {left}")
            time.sleep(0.001)

    def _kill_once(self) -> None:
        """Freeze first, so that nobody forks away while we go through the list."""
        with suppress(OSError):
            self.freeze(True)
        for pid in self.everybody():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(OSError):
            self.freeze(False)

    def delete(self) -> None:
        """``rmdir`` all its directories; what is gone already is no error."""
        for directory in self.directories():
            remove_tree(directory)


# %% Creating, opening
def create(path: str, resources: Resources) -> Cgroup:
    """A new cgroup at ``path`` (like ``/minidock/<id>``) with the limits of ``resources``.

    Raises :class:`Unavailable`, naming the controller, when a limit was asked
    for that this host cannot keep.
    """
    cgroup = open(path)
    with steps.step("make the cgroup", call="mkdir(2)", chapter="cgroups", path=path) as step:
        step.undo(cgroup.delete)
        cgroup.make()
    with steps.step(
        "set the limits",
        call="write(2)",
        chapter="cgroups",
        limits=_describe(resources),
    ):
        cgroup.apply(resources)
    return cgroup


def open(path: str) -> Cgroup:  # noqa: A001 (reads as `cgroups.open`)
    """The cgroup at ``path``, which may or may not exist."""
    if hierarchy() is Version.V2:
        from minidock.cgroups.v2 import V2Cgroup

        return V2Cgroup(path, host())
    from minidock.cgroups.v1 import V1Cgroup

    return V1Cgroup(path, host())


def children(path: str) -> list[str]:
    """The names of the cgroups directly below ``path``, in any tree."""
    names: set[str] = set()
    for directory in open(path).directories():
        with suppress(FileNotFoundError):
            names.update(entry.name for entry in os.scandir(directory) if entry.is_dir())
    return sorted(names)


def _describe(resources: Resources) -> str:
    words = []
    if resources.memory is not None and resources.memory.limit:
        words.append(f"memory={resources.memory.limit}")
    if resources.cpu is not None and resources.cpu.quota:
        words.append(f"cpu={resources.cpu.quota}/{resources.cpu.period}us")
    if resources.pids is not None:
        words.append(f"pids={resources.pids.limit}")
    return " ".join(words) or "devices only"


# %% Files that are commands
def write(path: str, value: str) -> None:
    """Write ``value`` in one write(2), as these files want it. Raises an :class:`OSError` naming both."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, f"write(2) {value!r} to {path}: {error.strerror}") from None


def write_known(path: str, value: str) -> None:
    """The same; a file that this kernel does not have is a limit that it cannot keep."""
    if not os.path.exists(path):
        raise Unavailable(f"this kernel has no {os.path.basename(path)} (wanted: {value})")
    write(path, value)


def read(path: str) -> str:
    """The whole of a small file."""
    with builtins.open(path) as file:
        return file.read()


def keyed(path: str) -> dict[str, int]:
    """A file of lines ``name number``."""
    return {name: int(value) for name, value in (line.split() for line in read(path).splitlines())}


# %% What both versions do
def check_usage(file: str, limit: int) -> None:
    """``checkBeforeUpdate``: do not set a limit below what is used, which would kill."""
    used = int(read(file))
    if used > limit:
        raise Conflict(
            f"unable to set memory limit to {limit}: container already using {used} bytes"
        )


def rdma_line(device: str, limits: Rdma) -> str:
    """``mlx4_0 hca_handle=3 hca_object=max``."""
    pairs = (("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects))
    words = [f"{name}={'max' if value is None else value}" for name, value in pairs]
    return " ".join([device, *words])


# %% Removing one
def remove_tree(directory: str) -> None:
    """``rmdir`` a cgroup and those that its processes may have made below it.

    EBUSY means that a process which is dying has not yet left: have patience.
    """
    deadline = time.monotonic() + 5.0
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY) or time.monotonic() > deadline:
                raise
        for entry in os.scandir(directory):
            if entry.is_dir():
                remove_tree(entry.path)
        time.sleep(0.001)
