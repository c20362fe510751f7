"""Hints for the lab ``cgroups``."""

from collections.abc import Iterator
from pathlib import Path

from labs.bench import Bench, Wrong, command
from labs.table import cgroup_version

V2 = cgroup_version() == "v2"


def _files(controller: str) -> Iterator[str]:
    """What the container's cgroup has of the controller, to choose from."""
    for identity in command("minidock", "ps", "-q", "--no-trunc").out.split()[:1]:
        top = Path("/sys/fs/cgroup" if V2 else f"/sys/fs/cgroup/{controller}")
        place = top / "minidock" / identity
        names = sorted(path.name for path in place.glob(f"{controller}.*"))
        yield f"The container's cgroup is {place}; its files: {' '.join(names)}."


# %% Memory
def memory(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Which file."""
    yield "A soft limit (soft_limit_in_bytes, memory.low, memory.high) never kills; -m is the hard one."
    yield from _files("memory")
    yield "memory.limit goes into " + ("memory.max." if V2 else "memory.limit_in_bytes.")


def swap(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Together or alone."""
    yield "OCI's memory.swap is memory and swap together."
    yield (
        "memory.swap.max = swap - limit." if V2 else "memory.memsw.limit_in_bytes is together, too."
    )


def changes(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The order."""
    yield "The kernel refuses (EINVAL) a moment in which the memory limit is above the other."
    yield "Raising: memsw first. Lowering: memory first. So read what memsw is now."


def kills(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """It must be in force."""
    yield "The limit must be set before the program runs, in the cgroup in which it runs."


# %% Processors
def processor(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Microseconds."""
    yield "Quota and period are microseconds in OCI and in the kernel: no arithmetic is needed."
    yield from _files("cpu")


def throttles(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """What is in force."""
    yield "Without a quota nobody is throttled; shares only count when processors are scarce."


def cpuset(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """Another controller."""
    yield "cpus and mems belong to another controller than the rest: cpuset."
    yield from _files("cpuset")
    yield "Catch the OSError of write() and raise InvalidParameter with Docker's words."
