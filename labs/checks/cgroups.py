"""Lab ``cgroups``: limits of memory and processors, version 1 or 2, whichever the host has."""

import os
from functools import partial
from pathlib import Path

from labs.bench import Bench, Box, Wrong, expect, in_child, wait_for
from labs.table import cgroup_version

MB = 1 << 20

V2 = cgroup_version() == "v2"


# %% Reading what the kernel has
def _directory(controller: str, group: str) -> Path:
    return Path("/sys/fs/cgroup" if V2 else f"/sys/fs/cgroup/{controller}") / group


def _read(box: Box, controller: str, file: str) -> str:
    """The file of the container's cgroup, without the newline."""
    return (_directory(controller, f"minidock/{box.id}") / file).read_text().strip()


def _says(box: Box, controller: str, file: str, wanted: str, why: str) -> None:
    """Expect ``wanted`` in the file; look where else it might have gone."""
    got = _read(box, controller, file)
    if got == wanted:
        return
    place = f"{file} says {got}"
    above = _directory(controller, "minidock") / file
    if above.exists() and above.read_text().strip() == wanted:
        raise Wrong(
            f"{wanted} in {file} of the container's cgroup ({why})",
            f"{place}; the {wanted} stands in {above}, where it limits all containers together",
        )
    others = sorted(_directory(controller, f"minidock/{box.id}").glob(f"{controller}.*"))
    also = [other.name for other in others if other.name != file and _content(other) == wanted]
    hint = f"; {wanted} stands in {', '.join(also)}" if also else ""
    raise Wrong(f"{wanted} in {file} ({why})", f"{place}{hint}")


def _content(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # some can only be written
        return ""


# %% Memory
def memory(bench: Bench) -> None:
    """-m 64m stands in the container's cgroup."""
    box = bench.box("-m", "64m")
    file = "memory.max" if V2 else "memory.limit_in_bytes"
    _says(box, "memory", file, str(64 * MB), "-m 64m")
    box = bench.box("-m", "64m", "--memory-reservation", "32m")
    file = "memory.low" if V2 else "memory.soft_limit_in_bytes"
    _says(box, "memory", file, str(32 * MB), "--memory-reservation 32m")


def swap(bench: Bench) -> None:
    """--memory-swap counts memory and swap together."""
    file = "memory.swap.max" if V2 else "memory.memsw.limit_in_bytes"
    box = bench.box("-m", "64m", "--memory-swap", "96m")
    if not (_directory("memory", f"minidock/{box.id}") / file).exists():
        return  # this kernel does not count swap
    wanted = 32 * MB if V2 else 96 * MB
    _says(box, "memory", file, str(wanted), "-m 64m --memory-swap 96m")
    box = bench.box("-m", "64m", "--memory-swap", "-1")
    got = _read(box, "memory", file)
    expect(
        got == "max" or (got.isdigit() and int(got) > 1 << 60),
        f"no limit in {file} (--memory-swap -1)",
        f"it says {got}",
    )


def changes(bench: Bench) -> None:
    """The limits of a running container can be raised and lowered again."""
    box = bench.box("-m", "64m", "--memory-swap", "64m")
    file = "memory.max" if V2 else "memory.limit_in_bytes"
    for size in (256, 32):
        in_child(partial(_apply, box, size * MB))
        _says(box, "memory", file, str(size * MB), f"apply() with {size} MB for both limits")


def _apply(box: Box, size: int) -> None:
    from minidock import cgroups
    from minidock.spec.runtime import Memory, Resources

    limits = Resources(memory=Memory(limit=size, swap=size))
    try:
        cgroups.open(f"/minidock/{box.id}").apply(limits)
    except OSError as error:
        raise Wrong(f"apply() to set both limits to {size >> 20} MB", str(error)) from error


def kills(bench: Bench) -> None:
    """Who uses more than its limit is killed, and nobody else."""
    limits = ("-m", "16m", "--memory-swap", "16m")
    words = ("dd", "if=/dev/zero", "of=/dev/null", "count=1")
    done = bench.attempt("run", "--rm", *limits, "busybox", *words, "bs=64M")
    expect(
        done.status == 137,
        "status 137 (SIGKILL) for a program that takes 64 MB with a limit of 16",
        f"the status is {done.status}: {done.last}",
    )
    done = bench.attempt("run", "--rm", *limits, "busybox", *words, "bs=4M")
    expect(done.status == 0, "a program of 4 MB to end well", f"the status is {done.status}")


# %% Processors
def processor(bench: Bench) -> None:
    """--cpus, --cpu-quota, --cpu-period and --cpu-shares stand in the container's cgroup."""
    box = bench.box("--cpus", "0.5")
    if V2:
        _says(box, "cpu", "cpu.max", "50000 100000", "--cpus 0.5")
        box = bench.box("--cpu-period", "50000", "--cpu-quota", "20000")
        _says(box, "cpu", "cpu.max", "20000 50000", "--cpu-period 50000 --cpu-quota 20000")
        box = bench.box("--cpu-shares", "512")
        _says(box, "cpu", "cpu.weight", "20", "--cpu-shares 512")
        return
    _says(box, "cpu", "cpu.cfs_quota_us", "50000", "--cpus 0.5")
    box = bench.box("--cpu-period", "50000", "--cpu-quota", "20000")
    _says(box, "cpu", "cpu.cfs_period_us", "50000", "--cpu-period 50000")
    _says(box, "cpu", "cpu.cfs_quota_us", "20000", "--cpu-quota 20000")
    box = bench.box("--cpu-shares", "512")
    _says(box, "cpu", "cpu.shares", "512", "--cpu-shares 512")


def throttles(bench: Bench) -> None:
    """A busy container with --cpus 0.1 is held back."""
    box = bench.box("--cpus", "0.1", run=("sh", "-c", "while :; do :; done"))

    def held_back() -> bool:
        words = _read(box, "cpu", "cpu.stat").split()
        return int(words[words.index("nr_throttled") + 1]) > 0

    expect(
        wait_for(held_back),
        "nr_throttled in cpu.stat to grow",
        "it stays 0: the container has all the processor that it wants",
    )


def cpuset(bench: Bench) -> None:
    """--cpuset-cpus binds to a processor, and one that does not exist is refused."""
    box = bench.box("--cpuset-cpus", "0")
    status = Path(f"/proc/{box.pid}/status").read_text().split()
    allowed = status[status.index("Cpus_allowed_list:") + 1]
    expect(
        allowed == "0",
        "the processor 0 alone (--cpuset-cpus 0)",
        f"Cpus_allowed_list of process {box.pid} says {allowed}",
    )
    in_child(partial(_ask_for_a_processor_too_many, box, (os.cpu_count() or 1) + 400))


def _ask_for_a_processor_too_many(box: Box, number: int) -> None:
    from minidock import cgroups
    from minidock.errors import InvalidParameter
    from minidock.spec.runtime import CPU, Resources

    said = "nothing"
    try:
        cgroups.open(f"/minidock/{box.id}").apply(Resources(cpu=CPU(cpus=str(number))))
    except InvalidParameter as error:
        if "not available" in str(error):
            return
        said = str(error)
    except OSError as error:
        said = f"OSError: {error}"
    raise Wrong(
        f"InvalidParameter, “Requested cpus are not available”, for processor {number}",
        f"apply() says {said}",
    )
