"""Forgets swap: a container may use as much of it as there is."""

# check: swap
# expect: 100663296 in memory.memsw.limit_in_bytes

from minidock.cgroups import write
from minidock.spec.runtime import Memory


def _limit_memory(directory: str, memory: Memory) -> None:
    if memory.limit is not None:
        write(f"{directory}/memory.limit_in_bytes", str(memory.limit))
    if memory.reservation is not None:
        write(f"{directory}/memory.soft_limit_in_bytes", str(memory.reservation))
