"""Writes the limit into the directory above, for all containers together."""

# check: memory
# expect: limits all containers together
import os

from minidock.cgroups import write
from minidock.spec.runtime import Memory


class V2Cgroup:
    def _limit_memory(self, memory: Memory) -> None:
        if memory.limit is not None:
            write(f"{os.path.dirname(self.directory)}/memory.max", str(memory.limit))
