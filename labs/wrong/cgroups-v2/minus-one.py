"""Writes -1 for "no limit", as version 1 would have it."""

# check: swap
# expect: '-1' to .*memory.swap.max: Invalid argument
from minidock.spec.runtime import Memory


class V2Cgroup:
    def _limit_memory(self, memory: Memory) -> None:
        if memory.limit is not None:
            self._set("memory.max", str(memory.limit), "a memory limit")
        if memory.reservation is not None:
            self._set("memory.low", str(memory.reservation), "a memory reservation")
        if memory.swap is not None:
            alone = -1 if memory.swap < 0 else memory.swap - (memory.limit or 0)
            self._set("memory.swap.max", str(alone), "a swap limit")
