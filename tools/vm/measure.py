"""What a virtual machine costs, beside a container and beside nothing at all.

The same programs are run three times on this computer: on the host, in a
container of ours, in a machine under QEMU. What is counted:

* how long until it answers (a container has run ``true`` and is gone; the
  machine answers to ssh),
* what one that does nothing costs in memory (the container's cgroup and its
  monitor; the emulator) and on disk,
* a system call: ``dd`` with blocks of one byte makes two for every byte,
* arithmetic: a loop of ``mawk``, which asks the kernel for nothing,
* a process: fork, exec and wait of ``/bin/true``.

The trap is to compare what is not alike: the programs are Debian's in all
three places, and the time is taken inside, by the clock of the one measured.

**Interface:** :func:`table`.

**See:** the chapter *The machine under the laboratory*, which shows the table.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from tools.transcripts import archive, environment
from tools.vm.machine import Settings, machine
from tools.vm.shell import run

TIMED = "t=$(date +%s%N); {work}; echo $((($(date +%s%N) - t) / {times}))"
WORK = {
    "a system call": ("dd if=/dev/zero of=/dev/null bs=1 count=200000 status=none", 400_000),
    "an addition in a loop of mawk": (
        "mawk 'BEGIN { for (i = 0; i < 1000000; i++) s += i }'",
        1_000_000,
    ),
    "a process: fork, exec, wait": ("for i in $(seq 200); do /bin/true; done", 200),
}
Shell = Callable[[str], str]


# %% The same programs in three places
def table(box: Path, wanted: Settings) -> str:
    """Markdown, ready for the chapter."""
    host = {name: _cost(name, lambda script: run("sh", "-c", script)) for name in WORK}
    inside, container = _container()
    outside, guest = _machine(box, wanted)
    rows = [(name, "", inside[name], outside[name]) for name in inside]
    rows += [(name, host[name], container[name], guest[name]) for name in WORK]
    head = ["", "on the host", "in a container", f"in a VM ({wanted.accelerator})"]
    lines = [head, ["---"] * 4, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cost(name: str, shell: Shell) -> str:
    """Nanoseconds for one, as people write it; the best of three."""
    work, times = WORK[name]
    script = TIMED.format(work=work, times=times)
    best = min(int(shell(script)) for _ in range(3))
    unit, size = next(
        (u, s) for u, s in (("ms", 1e6), ("µs", 1e3), ("ns", 1)) if best >= s or s == 1
    )
    return f"{best / size:.3g} {unit}"


# %% A container
def _container() -> tuple[dict[str, str], dict[str, str]]:
    """What it costs to have one, and the programs in it."""
    with environment() as own:

        def minidock(*words: str) -> str:
            return run(sys.executable, "-m", "minidock", *words, env=own)

        for image in ("busybox", "debian:bookworm"):
            minidock("load", "-i", str(archive(image)))
        minidock("run", "--rm", "busybox", "true")  # the daemon is warm now
        begun = time.monotonic()
        minidock("run", "--rm", "busybox", "true")
        seconds = time.monotonic() - begun
        minidock("run", "-d", "--name", "idle", "debian:bookworm", "sleep", "1000")
        costs = {
            "starts in": f"{seconds * 1000:.0f} ms",
            "memory, doing nothing": f"{_container_memory(minidock('inspect', '-f', '{{.Id}}', 'idle').strip()) / 2**20:.1f} MB",
            "disk of its own": "0 MB",
        }
        run_in = {
            name: _cost(name, lambda script: minidock("exec", "idle", "sh", "-c", script))
            for name in WORK
        }
        minidock("rm", "-f", "idle")
    return costs, run_in


def _container_memory(container: str) -> int:
    """The processes in its cgroup and the monitor beside it: their own part of memory, in bytes."""
    from minidock import cgroups

    pids = cgroups.open(f"/minidock/{container}").everybody()
    parents = {
        int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids
    }
    return sum(_pss(pid) for pid in {*pids, *parents})


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


# %% A machine
def _machine(box: Path, wanted: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """The same of a virtual machine."""
    begun = time.monotonic()
    with machine("qemu", box, wanted) as (one, ssh):
        seconds = time.monotonic() - begun
        memory, _, disk = one.footprint().partition(", ")
        run_in = {name: _cost(name, ssh.run) for name in WORK}
        costs = {
            "starts in": f"{seconds:.0f} s",
            "memory, doing nothing": memory.replace(" of memory", ""),
            "disk of its own": disk.replace(" of disk", ""),
        }
    return costs, run_in
