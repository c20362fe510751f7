"""Writes the quota without its period."""

# check: processor
# expect: cpu.max says 20000 100000
from minidock.cgroups.v2 import weight
from minidock.spec.runtime import CPU


class V2Cgroup:
    def _limit_cpu(self, cpu: CPU) -> None:
        if cpu.shares:
            self._set("cpu.weight", str(weight(cpu.shares)), "a processor weight")
        if cpu.quota:
            self._set("cpu.max", str(cpu.quota), "a processor limit")
        for name, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
            if text:
                self._set(f"cpuset.{name}", text, f"--cpuset-{name}")
