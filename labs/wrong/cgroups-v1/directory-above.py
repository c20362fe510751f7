"""Writes the limit into the directory above, for all containers together."""

# check: memory
# expect: limits all containers together
import os

from minidock.cgroups import write
from minidock.spec.runtime import Memory


def _limit_memory(directory: str, memory: Memory) -> None:
    if memory.limit is not None:
        write(f"{os.path.dirname(directory)}/memory.limit_in_bytes", str(memory.limit))
