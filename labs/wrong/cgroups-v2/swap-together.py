"""Takes memory.swap for swap alone, as version 2 counts it."""

# check: swap
# expect: memory.swap.max says 100663296
from minidock.cgroups.v2 import _or_max
from minidock.spec.runtime import Memory


class V2Cgroup:
    def _limit_memory(self, memory: Memory) -> None:
        if memory.limit is not None:
            self._set("memory.max", _or_max(memory.limit), "a memory limit")
        if memory.reservation is not None:
            self._set("memory.low", _or_max(memory.reservation), "a memory reservation")
        if memory.swap is not None:
            self._set("memory.swap.max", _or_max(memory.swap), "a swap limit")
