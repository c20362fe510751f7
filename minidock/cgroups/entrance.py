"""The way into a cgroup that keeps nobody waiting.

Putting *another* process into a cgroup is slow: it must not fork in that
moment, so the kernel holds up all forks of the whole host, and before it
may, it waits until every processor has passed a quiet point (an RCU grace
period, 10 to 20 ms, a third of a ``minidock run``). Two ways need none of
that. In version 2 a child can be *born* in the cgroup; in version 1 a thread
can move *itself*, by writing 0 into ``tasks``: it cannot fork while it writes.

The traps. Writing 0 to ``cgroup.procs`` is slow again: that file means all
threads of the process. Our processes have only one, so ``tasks`` will do.
Who is in a user namespace of its own may not open these files any more: they
are opened before, and the kernel asks who opened, not who writes. And in
version 2 a group that has groups below it may hold nobody.

**Interface:** :class:`Entrance`.

**See:** clone(2) CLONE_INTO_CGROUP (Linux 5.7); cgroups(7); Linux
``kernel/cgroup/cgroup.c``, ``cgroup_procs_write_start``.
"""

import os
from dataclasses import dataclass
from typing import Self

from minidock import steps


# %% Open doors
@dataclass(frozen=True, slots=True)
class Entrance:
    """Descriptors: the directory of version 2 to be ``born`` in, and the ``doors`` of version 1."""

    born: int | None
    doors: tuple[int, ...]

    @classmethod
    def open(cls, by_controller: dict[str, str], exact: bool = False) -> Self:
        """Of the directories of one cgroup; version 2's goes by the empty name.

        Unless it must be ``exact``, another below it will do, if that one may hold nobody.
        """
        unified = by_controller.get("")
        others = dict.fromkeys(place for name, place in by_controller.items() if name)
        opened: list[int] = []
        try:
            for place in others:
                opened.append(os.open(f"{place}/tasks", os.O_WRONLY | os.O_CLOEXEC))
            born = None if unified is None else _open_birthplace(unified, exact)
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        return cls(born, tuple(opened))

    def enter(self) -> None:
        """In the child: go through the doors. It was born in the version 2 tree already."""
        how = "write(2) tasks" if self.doors else "clone3(2)"
        with steps.step("enter the cgroup", call=how, chapter="cgroups"):
            for door in self.doors:
                try:
                    os.write(door, b"0")
                except OSError as error:
                    path = os.readlink(f"/proc/self/fd/{door}")
                    reason = error.strerror
                    raise OSError(error.errno, f"write(2) '0' to {path}: {reason}") from None

    def close(self) -> None:
        """Close them all."""
        for fd in (*self.doors, *(() if self.born is None else (self.born,))):
            os.close(fd)


# %% Groups that have groups below them
def _open_birthplace(directory: str, exact: bool) -> int:
    """The directory; or if it passes controllers on, that of the oldest process: the container's init."""
    with open(f"{directory}/cgroup.subtree_control") as file:
        passes_on = file.read().strip()
    place = _leaf_of_the_first(directory) if passes_on and not exact else directory
    return os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _leaf_of_the_first(directory: str) -> str:
    places = {}
    for place, _, _ in os.walk(directory):
        with open(f"{place}/cgroup.procs") as file:
            places.update({int(pid): place for pid in file.read().split()})
    return places[min(places)] if places else directory
