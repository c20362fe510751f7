"""Writes the limit into memory.high, which slows down and never kills."""

# check: memory
# expect: 67108864 stands in memory.high
from minidock.cgroups.v2 import _or_max
from minidock.spec.runtime import Memory


class V2Cgroup:
    def _limit_memory(self, memory: Memory) -> None:
        if memory.limit is not None:
            self._set("memory.high", _or_max(memory.limit), "a memory limit")
        if memory.reservation is not None:
            self._set("memory.low", _or_max(memory.reservation), "a memory reservation")
