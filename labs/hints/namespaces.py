"""Hints for the lab ``namespaces``."""

import os
from collections.abc import Iterator

from labs.bench import Bench, Wrong, command


# %% flags()
def bits(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The table has it all."""
    yield "Every row of KINDS has a .flag; begin with Clone(0) and add to it with |=."
    yield "Three kinds need care, and all three are skipped: one with a path, cgroup, time."
    if "NEWTIME" in wrong.expected:
        yield "The bits of clone(2) and of the signal that it sends overlap: 0x80 is CLONE_NEWTIME."


def existing(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The prepared namespaces can be seen."""
    yield "An entry with a path says: this one exists. clone(2) can only make new ones."
    prepared = os.listdir(f"{os.environ['MINIDOCK_RUN']}/netns")
    if prepared:
        yield (
            f"The engine has prepared a network namespace at {os.environ['MINIDOCK_RUN']}/netns/"
            f"{prepared[0][:12]}…; join() enters it before the clone. What does NEWNET do then?"
        )


# %% enter()
def exec_joins(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """What the first process has and we have not."""
    yield "setns(2) on a pidfd takes several bits at once: setns(pidfd, Clone.NEWNS | …)."
    for identity in command("minidock", "ps", "-q").out.split()[:1]:
        pid = command("minidock", "inspect", "-f", "{{.State.Pid}}", identity).out.strip()
        differ = [
            kind
            for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
            if os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
        ]
        yield f"Of the container's first process, these differ from ours now: {', '.join(differ)}."
    yield "So: for each row of KINDS whose _identity(pid, kind) is not ours, add its flag."


def exec_sees(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """The two that are seen most."""
    yield "What ps sees is the pid namespace of /proc's mount; what /proc is, the mount namespace."


def shared(wrong: Wrong, bench: Bench) -> Iterator[str]:
    """EINVAL has one usual cause."""
    yield "setns(2) to the user namespace that one is already in is EINVAL: leave out what is equal."
