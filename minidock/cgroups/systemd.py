"""Where systemd is in charge: a cgroup that it knows about.

systemd regards the whole tree as its own, and tidies it up. Who wants a
cgroup in it asks for a *scope*, a unit around processes that somebody else
has started, with ``Delegate=yes``: hands off what is inside. So with
``--systemd-cgroup`` (podman's and Kubernetes' usual way) the cgroup's name is
three words, ``slice:prefix:name``, and systemd makes it. Our own code sets
the limits all the same; systemd is told, too, as it writes its own idea of
them whenever it reads its configuration anew.

The trap is that a scope is never empty: systemd wants a process for it, and
drops the scope with the last one. But the container's first process shall
be born in the cgroup, which must be there before. So ``systemd-run`` puts a
``cat`` into it first, which keeps the place: when it repeats the line that
it is given, the scope stands, and when its input ends (also by our death),
it goes.

**Interface:** :func:`parse`, :func:`check_free`, :class:`Unit`, :class:`Scope`, :func:`update`,
:func:`stop`.

**See:** systemd.scope(5), systemd-run(1), systemd.resource-control(5);
systemd's ``docs/CGROUP_DELEGATION.md``; runc ``docs/systemd.md``.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from minidock.cgroups import Version, hierarchy
from minidock.cgroups.v2 import io_weight, weight
from minidock.errors import Conflict, InvalidParameter, NotSupported, Unavailable
from minidock.spec.runtime import CPU, Memory, Resources


# %% Names
@dataclass(frozen=True, slots=True)
class Unit:
    """A scope below a slice; ``path`` is its cgroup."""

    slice: str
    name: str
    path: str


def parse(text: str, container_id: str) -> Unit:
    """``slice:prefix:name``; without any of it, as runc has it. Raises in runc's words."""
    if not os.path.isdir("/run/systemd/system"):
        raise NotSupported("systemd not running on this host, cannot use systemd cgroups manager")
    words = text.split(":") if text else ["", "runc", container_id]
    if len(words) != 3:
        raise InvalidParameter(
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups,'
            f' got "{text}" instead'
        )
    slice_name, prefix, name = words
    slice_name = slice_name or ("user.slice" if os.geteuid() else "system.slice")
    unit = f"{prefix}-{name}.scope"
    if "/" in unit or not name:
        raise InvalidParameter(f"linux.cgroupsPath {text!r}: {unit!r} is no name of a unit")
    return Unit(slice_name, unit, f"{_top()}{expand(slice_name)}/{unit}")


def expand(slice_name: str) -> str:
    """``a-b.slice`` lies in ``a.slice``: ``/a.slice/a-b.slice``."""
    name = slice_name.removesuffix(".slice")
    if name == "-":
        return ""
    parts = name.split("-")
    if name == slice_name or "/" in name or not all(parts):
        raise InvalidParameter(f"invalid slice name: {slice_name}")
    return "".join(f"/{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


def check_free(unit: Unit) -> None:
    """Raise if somebody else has a unit of that name: when we clean up, it would be his."""
    if _ask("systemctl", "show", "--property=LoadState", "--value", unit.name) != "not-found":
        raise Conflict(f"unable to start unit {unit.name!r}: Unit {unit.name} already exists.")


def _top() -> str:
    """Below which cgroup the manager keeps its slices: the system's at the top, a user's in the user's."""
    if os.geteuid() == 0:
        return ""
    return _ask("systemctl", "show", "--property=ControlGroup", "--value")


# %% A scope
class Scope:
    """Makes the cgroup of ``unit`` and keeps it, until :meth:`close`."""

    def __init__(
        self, unit: Unit, resources: Resources, annotations: Mapping[str, str], about: str
    ) -> None:
        words = [f"--unit={unit.name}", f"--slice={unit.slice}", f"--description={about}"]
        kept = ["Delegate=yes", "DefaultDependencies=no", "TasksAccounting=yes"]
        kept += ["CPUAccounting=yes", "MemoryAccounting=yes"]
        wanted = [*kept, *properties(resources), *_annotated(annotations)]
        self._keeper = subprocess.Popen(
            ["systemd-run", *_manager(), "--scope", "--quiet", "--collect", *words]
            + [f"--property={one}" for one in wanted]
            + ["--", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        try:
            self._keeper.stdin.write(b"\n")
            self._keeper.stdin.flush()
            stands = self._keeper.stdout.read(1) == b"\n"
        except BrokenPipeError:
            stands = False
        if not stands:
            said = self._keeper.communicate()[1].decode(errors="replace").strip()
            raise Unavailable(f"unable to start unit {unit.name!r}: {said}")

    def close(self) -> None:
        """The container's process is in it: nobody else needs to be.

        To close its input is not enough, as that process has inherited our end.
        """
        self._keeper.kill()
        self._keeper.communicate()


def update(unit: str, resources: Resources) -> None:
    """Tell systemd of new limits."""
    wanted = properties(resources)
    if wanted:
        _ask("systemctl", "set-property", "--runtime", unit, *wanted)


def stop(unit: str) -> None:
    """Have the scope ended and forgotten; it may be gone already."""
    for verb in ("stop", "reset-failed"):
        words = ["systemctl", *_manager(), "--quiet", verb, unit]
        subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False)


def _manager() -> list[str]:
    return ["--user"] if os.geteuid() else []


def _ask(program: str, *words: str) -> str:
    command = [program, *_manager(), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise Unavailable(f"{program} {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


# %% Limits in systemd's words
def properties(resources: Resources) -> list[str]:
    """What systemd has a word for; the rest only our own code sets."""
    found = [] if resources.memory is None else _memory(resources.memory)
    found += [] if resources.cpu is None else _cpu(resources.cpu)
    if resources.pids is not None:
        found.append(f"TasksMax={_or_infinity(resources.pids.limit or -1)}")
    if resources.block_io is not None and resources.block_io.weight:
        number = resources.block_io.weight
        found.append(f"IOWeight={io_weight(number)}" if _unified() else f"BlockIOWeight={number}")
    return found


def _unified() -> bool:
    return hierarchy() is Version.V2


def _or_infinity(value: int) -> str:
    return "infinity" if value < 0 else str(value)


def _memory(memory: Memory) -> list[str]:
    found = []
    if memory.limit is not None:
        name = "MemoryMax" if _unified() else "MemoryLimit"
        found.append(f"{name}={_or_infinity(memory.limit)}")
    if memory.reservation is not None and _unified():
        found.append(f"MemoryLow={_or_infinity(memory.reservation)}")
    if memory.swap is not None and _unified():
        alone = -1 if memory.swap < 0 else memory.swap - (memory.limit or 0)
        found.append(f"MemorySwapMax={_or_infinity(alone)}")
    return found


def _cpu(cpu: CPU) -> list[str]:
    """systemd counts a quota in whole hundredths of a processor: rounded up, our own code is exact."""
    found = []
    if cpu.shares:
        found.append(f"CPUWeight={weight(cpu.shares)}" if _unified() else f"CPUShares={cpu.shares}")
    if cpu.quota is not None:
        percent = -(-cpu.quota * 100 // (cpu.period or 100_000))
        found.append(f"CPUQuota={f'{percent}%' if cpu.quota > 0 else ''}")
    if cpu.period is not None:
        found.append(f"CPUQuotaPeriodSec={cpu.period}us")
    if _unified():
        found += [f"AllowedCPUs={cpu.cpus}"] if cpu.cpus else []
        found += [f"AllowedMemoryNodes={cpu.mems}"] if cpu.mems else []
    return found


# %% Properties that the bundle asks for
PREFIX = "org.systemd.property."


def _annotated(annotations: Mapping[str, str]) -> list[str]:
    """``org.systemd.property.TimeoutStopUSec: "uint64 5000000"``, in the words of a unit's file."""
    found = []
    for key, text in annotations.items():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX)
        if not name.isalpha() or "\n" in text:
            raise InvalidParameter(f"Annotation {key}: {text!r} is no property of a unit")
        value = text.removeprefix("uint64 ").removeprefix("int64 ").removeprefix("uint32 ")
        value = value[1:-1] if value[:1] in ("'", '"') else value
        if name.endswith("USec"):
            name, value = f"{name.removesuffix('USec')}Sec", f"{value}us"
        found.append(f"{name}={value}")
    return found
