"""Writes the limit into the soft limit, which only matters when the host is short of memory."""

# check: memory
# expect: 67108864 stands in memory.soft_limit_in_bytes

from minidock.cgroups import write
from minidock.spec.runtime import Memory


def _limit_memory(directory: str, memory: Memory) -> None:
    if memory.limit is not None:
        write(f"{directory}/memory.soft_limit_in_bytes", str(memory.limit))
    if memory.reservation is not None:
        write(f"{directory}/memory.soft_limit_in_bytes", str(memory.reservation))
